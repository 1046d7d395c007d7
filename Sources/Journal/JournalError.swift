import Glibc

/// A call of sd-journal(3) that failed.
public nonisolated struct JournalError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Positive errno.
  public let code: Int32
  /// What was being done.
  public let what: String

  public init(code: Int32, what: String) {
    self.code = code
    self.what = what
  }

  public var description: String { "\(what): \(String(cString: strerror(code)))" }

  /// - Parameter result: of the call; negative for an error.
  @discardableResult
  static func check(_ result: Int32, _ what: @autoclosure () -> String) throws(JournalError) -> Int32 {
    guard result >= 0 else { throw JournalError(code: -result, what: what()) }
    return result
  }
}
