import CSystemd
import Glibc
public import Logging

/// Where the agent's own log goes.
public nonisolated enum LogDestination: Sendable, Hashable {
  /// Structured records by `sd_journal_sendv(3)`: when systemd connected our standard error
  /// to the journal.
  case journal
  /// Readable lines on standard error.
  case standardError

  /// The journal when `JOURNAL_STREAM` names our standard error (systemd.exec(5)).
  public static func detect() -> LogDestination {
    guard let stream = getenv("JOURNAL_STREAM") else { return .standardError }
    let parts = String(cString: stream).split(separator: ":")
    var status = stat()
    guard parts.count == 2, fstat(STDERR_FILENO, &status) == 0,
      UInt64(parts[0]) == UInt64(status.st_dev), UInt64(parts[1]) == UInt64(status.st_ino)
    else { return .standardError }
    return .journal
  }

  /// Makes every `Logger` of the process write there. Call it once, before the first logger.
  public func bootstrap(level: Logger.Level) {
    let destination = self
    LoggingSystem.bootstrap { label in
      RecordHandler(logLevel: level, label: label, destination: destination)
    }
  }
}
