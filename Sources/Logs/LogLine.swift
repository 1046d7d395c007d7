import CSystemd
import Glibc
import Logging

/// Writes a record as one line on standard error: `[info]    Text`.
///
/// Line breaks in a text become blanks, so that a record stays a line and none can be forged.
nonisolated enum LogLine {
  static func write(_ event: LogEvent) {
    var bytes = text(level: event.level, message: event.message.description)
    bytes.withUnsafeMutableBytes { buffer in
      // A line on a terminal or a pipe goes out at once or, when nobody reads, not at all.
      _ = Glibc.write(STDERR_FILENO, buffer.baseAddress, buffer.count)
    }
  }

  /// The level in brackets, padded to ten columns, then the text.
  static func text(level: Logger.Level, message: String) -> [UInt8] {
    var bytes = Array("[\(level == .warning ? "warn" : level.rawValue)]".utf8)
    repeat { bytes.append(0x20) } while bytes.count < 10
    for byte in message.utf8 { bytes.append(byte < 0x20 && byte != 0x09 ? 0x20 : byte) }
    bytes.append(0x0A)
    return bytes
  }
}
