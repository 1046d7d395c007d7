import CSQLite
import Glibc

/// One connection to one SQLite file.
///
/// The connection has one owner and closes with it. Every statement text is compiled once
/// and kept: the texts are constants of this module, so their number is bounded. All values
/// are bound, none is ever part of a text. Transactions nest by savepoints; the outermost one
/// begins IMMEDIATE, so that it waits for another program's write at its start
/// and never in its middle.
///
/// Settings and why:
/// - WAL with `synchronous=FULL`: a commit survives a power cut. Commits are rare (a target,
///   an image, a key) and each backs something that was already acknowledged or done elsewhere,
///   so one fsync each is the right price.
/// - A page cache of 128 KiB, no memory mapping, a soft heap limit of 1 MiB: the whole database
///   is usually smaller than 200 KiB.
/// - A checkpoint every 64 pages, so that the WAL stays around 256 KiB.
/// - A busy timeout of 5 s: another program may write rows of `config` (host 2.3).
public final class Connection {
  public nonisolated enum Location: Sendable, Hashable {
    case file(String)
    case memory

    fileprivate var name: String { if case .file(let path) = self { path } else { ":memory:" } }
  }

  public static let busyTimeoutMilliseconds: Int32 = 5000

  public private(set) var location: Location
  private var handle: Handle
  private var statements: [String: Statement] = [:]
  private var depth = 0

  private nonisolated struct Handle: ~Copyable {
    let pointer: OpaquePointer
    deinit { sqlite3_close_v2(pointer) }
  }

  /// Opens the file, which is created when missing with mode 0600 (so are its `-wal` and
  /// `-shm`, whose mode SQLite takes from the file). A file that another user may read is restricted.
  public init(_ location: Location) throws(DatabaseError) {
    if case .file(let path) = location { try Self.prepareFile(path) }
    var pointer: OpaquePointer?
    let result = sqlite3_open_v2(
      location.name, &pointer,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nil)
    guard let pointer else {
      throw DatabaseError(result: result, of: nil, context: location.name)
    }
    let handle = Handle(pointer: pointer)
    guard result == SQLITE_OK else {
      throw DatabaseError(result: result, of: pointer, context: location.name)
    }
    self.location = location
    self.handle = handle
    do {
      try configure()
    } catch {
      throw DatabaseError(
        error.code, error.message, context: location.name, resultCode: error.resultCode)
    }
  }

  // An existing file is not opened: closing it would drop the record locks that another
  // connection of this process holds on it (fcntl(2)).
  private static func prepareFile(_ path: String) throws(DatabaseError) {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFREG else {
        throw DatabaseError(.cannotOpen, "the database is not a regular file", context: path)
      }
      if status.st_mode & 0o077 != 0 { chmod(path, 0o600) }
      return
    }
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0o600)
    guard descriptor >= 0 else {
      throw DatabaseError(systemError: errno, call: "cannot create the database", path: path)
    }
    close(descriptor)
    synchronizeDirectory(of: path)
  }

  private func configure() throws(DatabaseError) {
    if sqlite3_db_readonly(handle.pointer, "main") == 1 {
      throw DatabaseError(.readOnly, "the database cannot be written", context: location.name)
    }
    csqlite_small_lookaside(handle.pointer)
    sqlite3_soft_heap_limit64(1 << 20)
    sqlite3_busy_timeout(handle.pointer, Self.busyTimeoutMilliseconds)
    try execute(
      """
      PRAGMA cache_size = -128; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
      PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF
      """)
    guard case .file = location else { return }
    try execute(
      """
      PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 64;
      PRAGMA journal_size_limit = 262144
      """)
  }

  // MARK: Statements

  /// Runs one statement with bound values.
  public func run(_ sql: String, _ values: [Value] = []) throws(DatabaseError) {
    try statement(sql).run(values) { _ in }
  }

  /// Runs one statement and reads its rows in order.
  public func rows<Result>(
    _ sql: String, _ values: [Value] = [],
    _ read: (borrowing Row) throws(DatabaseError) -> Result
  ) throws(DatabaseError) -> [Result] {
    var results: [Result] = []
    try statement(sql).run(values) { row throws(DatabaseError) in results.append(try read(row)) }
    return results
  }

  /// The first row of a statement, nil when there is none.
  public func first<Result>(
    _ sql: String, _ values: [Value] = [],
    _ read: (borrowing Row) throws(DatabaseError) -> Result
  ) throws(DatabaseError) -> Result? {
    try rows(sql, values, read).first
  }

  /// Runs a script of several statements without values; for schemas and pragmas.
  public func execute(_ script: String) throws(DatabaseError) {
    let result = sqlite3_exec(handle.pointer, script, nil, nil, nil)
    guard result == SQLITE_OK else {
      throw DatabaseError(result: result, of: handle.pointer, context: script)
    }
  }

  /// Rows that the latest INSERT, UPDATE or DELETE changed.
  public var changedRows: Int { Int(sqlite3_changes(handle.pointer)) }

  public var lastInsertedRow: Int { Int(sqlite3_last_insert_rowid(handle.pointer)) }

  /// A number that changes when another connection has changed the file.
  public func dataVersion() throws(DatabaseError) -> Int {
    try first("PRAGMA data_version") { row in row.integer(0) ?? 0 } ?? 0
  }

  /// Gives back what compiled statements and cached pages hold; after work that does not come back.
  public func releaseMemory() {
    statements.removeAll()
    sqlite3_db_release_memory(handle.pointer)
  }

  private func statement(_ sql: String) throws(DatabaseError) -> Statement {
    if let kept = statements[sql], !kept.isBusy { return kept }
    let fresh = try Statement(sql, on: handle.pointer)
    if statements[sql] == nil { statements[sql] = fresh }
    return fresh
  }

  // MARK: Transactions

  /// Everything in `body` happens, or nothing: what it throws rolls back and is thrown on.
  public func transaction<Result>(
    _ body: () throws(DatabaseError) -> Result
  ) throws(DatabaseError) -> Result {
    let level = depth
    try run(level == 0 ? "BEGIN IMMEDIATE" : "SAVEPOINT level\(level)")
    depth += 1
    defer { depth -= 1 }
    do {
      let result = try body()
      try run(level == 0 ? "COMMIT" : "RELEASE level\(level)")
      return result
    } catch {
      rollBack(to: level)
      throw error
    }
  }

  // After some faults (a full disk among them) SQLite has already rolled back by itself.
  private func rollBack(to level: Int) {
    guard sqlite3_get_autocommit(handle.pointer) == 0 else { return }
    if level == 0 {
      _ = sqlite3_exec(handle.pointer, "ROLLBACK", nil, nil, nil)
    } else {
      _ = sqlite3_exec(
        handle.pointer, "ROLLBACK TO level\(level); RELEASE level\(level)", nil, nil, nil)
    }
  }

  // MARK: Whole file

  /// Reads every page and compares structure with content; nil when the file is sound, else the
  /// first complaint (sqlite.org/pragma.html#pragma_quick_check).
  public func quickCheck() throws(DatabaseError) -> String? {
    let answer = try first("PRAGMA quick_check(1)") { row in row.text(0) ?? "" } ?? "no answer"
    return answer == "ok" ? nil : answer
  }

  /// Goes on with the database of `other`, which gets this one's. Not within a transaction.
  func exchange(with other: Connection) {
    statements.removeAll()
    other.statements.removeAll()
    swap(&handle, &other.handle)
    swap(&location, &other.location)
  }

  /// Replaces the content of this connection by that of `source`.
  func copyContent(of source: Connection) throws(DatabaseError) {
    guard let backup = sqlite3_backup_init(handle.pointer, "main", source.handle.pointer, "main")
    else {
      throw DatabaseError(
        result: sqlite3_errcode(handle.pointer), of: handle.pointer, context: "copy of the database")
    }
    let result = sqlite3_backup_step(backup, -1)
    sqlite3_backup_finish(backup)
    guard result == SQLITE_DONE else {
      throw DatabaseError(result: result, of: handle.pointer, context: "copy of the database")
    }
  }
}
