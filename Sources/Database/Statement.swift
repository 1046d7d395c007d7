import CSQLite

/// A prepared statement: compiled once, bound and stepped many times, finalised with
/// its owner. `Connection` keeps one for each SQL text.
final class Statement {
  let sql: String
  private let handle: Handle
  private let database: OpaquePointer

  private nonisolated struct Handle: ~Copyable {
    let pointer: OpaquePointer
    deinit { sqlite3_finalize(pointer) }
  }

  init(_ sql: String, on database: OpaquePointer) throws(DatabaseError) {
    var pointer: OpaquePointer?
    let result = sqlite3_prepare_v3(
      database, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &pointer, nil)
    guard result == SQLITE_OK, let pointer else {
      throw DatabaseError(result: result, of: database, context: sql)
    }
    self.sql = sql
    self.database = database
    handle = Handle(pointer: pointer)
  }

  /// In the middle of its rows; it must not be started again.
  var isBusy: Bool { sqlite3_stmt_busy(handle.pointer) != 0 }

  /// Binds, steps through all rows and resets, whether it succeeds or throws.
  func run(
    _ values: [Value], _ read: (borrowing Row) throws(DatabaseError) -> Void
  ) throws(DatabaseError) {
    defer {
      sqlite3_reset(handle.pointer)
      sqlite3_clear_bindings(handle.pointer)
    }
    for (index, value) in values.enumerated() { try bind(value, at: Int32(index + 1)) }
    while true {
      let result = sqlite3_step(handle.pointer)
      switch result {
      case SQLITE_ROW: try read(Row(statement: handle.pointer))
      case SQLITE_DONE: return
      default: throw fault(result)
      }
    }
  }

  private func bind(_ value: Value, at position: Int32) throws(DatabaseError) {
    let result: Int32
    switch value {
    case .null: result = sqlite3_bind_null(handle.pointer, position)
    case .integer(let number): result = sqlite3_bind_int64(handle.pointer, position, Int64(number))
    case .text(var text):
      result = text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { characters in
          guard let base = characters.baseAddress else {
            return csqlite_bind_text(handle.pointer, position, "", 0)
          }
          return csqlite_bind_text(handle.pointer, position, base, Int32(clamping: characters.count))
        }
      }
    }
    guard result == SQLITE_OK else { throw fault(result) }
  }

  private func fault(_ result: Int32) -> DatabaseError {
    DatabaseError(result: result, of: database, context: sql)
  }
}

/// The row that a statement stands on; valid while its closure runs.
public struct Row: ~Copyable {
  let statement: OpaquePointer

  public var columnCount: Int { Int(sqlite3_column_count(statement)) }

  public func isNull(_ column: Int) -> Bool {
    sqlite3_column_type(statement, Int32(column)) == SQLITE_NULL
  }

  /// The column as text, converted by SQLite's rules; nil for NULL. Bytes that are not
  /// UTF-8 become U+FFFD.
  public func text(_ column: Int) -> String? {
    guard let bytes = sqlite3_column_text(statement, Int32(column)) else { return nil }
    let count = Int(sqlite3_column_bytes(statement, Int32(column)))
    return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
  }

  /// The column as a whole number, converted by SQLite's rules; nil for NULL.
  public func integer(_ column: Int) -> Int? {
    isNull(column) ? nil : Int(sqlite3_column_int64(statement, Int32(column)))
  }

  /// NULL and 0 are false.
  public func flag(_ column: Int) -> Bool { sqlite3_column_int64(statement, Int32(column)) != 0 }
}
