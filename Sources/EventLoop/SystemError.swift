import CSystemd
import Glibc

/// A system call that failed.
public nonisolated struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The `errno` of the call.
  public let code: Int32
  /// Name of the call, as its man page has it.
  public let call: String

  public init(code: Int32, call: String) {
    self.code = code
    self.call = call
  }

  /// The error that `errno` describes right now.
  public static func last(_ call: String) -> SystemError {
    SystemError(code: errno, call: call)
  }

  /// The system's text for the code, such as `Permission denied`.
  public var reason: String { String(cString: strerror(code)) }

  public var description: String { "\(call): \(reason)" }
}

/// Repeats a call that a signal interrupted.
@inline(__always)
nonisolated func uninterrupted(_ body: () -> Int32) -> Int32 {
  while true {
    let result = body()
    if result >= 0 || errno != EINTR { return result }
  }
}
