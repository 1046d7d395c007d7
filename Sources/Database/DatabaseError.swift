import CSQLite
import Glibc

/// A fault of the store. The texts name files and statements, never a bound value:
/// keys and secrets cannot leak through an error.
public nonisolated struct DatabaseError: Error, Sendable, Hashable {
  /// What a caller can act on.
  public enum Code: Sendable, Hashable {
    /// No space left, or a quota.
    case full
    /// The file or its file system cannot be written.
    case readOnly
    /// Another program held its lock for longer than the busy timeout.
    case busy
    /// The file is not a database, or its content contradicts itself.
    case damaged
    /// The file or its directory cannot be opened or created.
    case cannotOpen
    /// Another agent runs on the same directory.
    case inUse
    /// A statement broke a rule of the schema.
    case constraint
    /// A statement is wrong, or the schema is not the expected one.
    case schema
    /// Everything else; see `resultCode`.
    case other
  }

  public let code: Code
  /// SQLite's extended result code (sqlite.org/rescode.html); 0 when the fault is not SQLite's.
  public let resultCode: Int32
  public let message: String
  /// The file, or the text of the statement without its values.
  public let context: String

  public init(_ code: Code, _ message: String, context: String, resultCode: Int32 = 0) {
    self.code = code
    self.message = message
    self.context = context
    self.resultCode = resultCode
  }

  /// True when the fault is the disk's: nothing can be stored there until someone has looked after it.
  public var isUnwritable: Bool {
    switch code {
    case .full, .readOnly, .cannotOpen: true
    case .other: resultCode & 0xFF == SQLITE_IOERR
    default: false
    }
  }
}

nonisolated extension DatabaseError: CustomStringConvertible {
  public var description: String { context.isEmpty ? message : "\(message) [\(context)]" }
}

nonisolated extension DatabaseError {
  /// The fault that `database` reports for `result`.
  init(result: Int32, of database: OpaquePointer?, context: String) {
    var message = String(cString: sqlite3_errstr(result))
    var extended = result
    var systemError: Int32 = 0
    if let database {
      extended = sqlite3_extended_errcode(database)
      if extended & 0xFF != result & 0xFF { extended = result }
      message = String(cString: sqlite3_errmsg(database))
      systemError = sqlite3_system_errno(database)
    }
    let code = Self.code(extended, systemError: systemError)
    if systemError != 0, code.isOfTheFileSystem {
      message += ": " + String(cString: strerror(systemError))
    }
    self.init(code, message, context: context, resultCode: extended)
  }

  /// The fault of a system call on `path`.
  init(systemError: Int32, call: String, path: String) {
    let code: Code =
      switch systemError {
      case ENOSPC, EDQUOT: .full
      case EROFS, EACCES, EPERM: .readOnly
      default: .cannotOpen
      }
    self.init(code, "\(call): \(String(cString: strerror(systemError)))", context: path)
  }

  private static func code(_ extended: Int32, systemError: Int32) -> Code {
    switch extended & 0xFF {
    case SQLITE_FULL: return .full
    case SQLITE_READONLY, SQLITE_PERM: return .readOnly
    case SQLITE_BUSY, SQLITE_LOCKED: return .busy
    case SQLITE_CORRUPT, SQLITE_NOTADB: return .damaged
    case SQLITE_CONSTRAINT: return .constraint
    case SQLITE_ERROR, SQLITE_SCHEMA, SQLITE_MISMATCH, SQLITE_RANGE: return .schema
    case SQLITE_CANTOPEN: return systemError == ENOSPC ? .full : .cannotOpen
    case SQLITE_IOERR:
      switch systemError {
      case ENOSPC, EDQUOT: return .full
      case EROFS, EACCES, EPERM: return .readOnly
      default: return isDamagedInput(extended) ? .damaged : .other
      }
    default: return .other
    }
  }

  // SQLITE_IOERR_CORRUPTFS and SQLITE_IOERR_SHORT_READ, whose macros do not import.
  private static func isDamagedInput(_ extended: Int32) -> Bool {
    extended == SQLITE_IOERR | (33 << 8) || extended == SQLITE_IOERR | (2 << 8)
  }
}

nonisolated extension DatabaseError.Code {
  fileprivate var isOfTheFileSystem: Bool {
    switch self {
    case .full, .readOnly, .cannotOpen, .other: true
    default: false
    }
  }
}
