import CSystemd
import Logging

/// Writes a record to the journal with its metadata as fields.
///
/// A metadata key `app-id` becomes the field `APP_ID`; `MESSAGE_ID` and others of
/// systemd.journal-fields(7) can be given by their names.
nonisolated enum JournalRecord {
  static func send(_ event: LogEvent, label: String, metadata: Logger.Metadata) {
    var fields = [
      "MESSAGE=\(event.message)", "PRIORITY=\(event.level.syslogPriority)",
      "SYSLOG_IDENTIFIER=balena-supervisor",
      "LOGGER=\(label)",
    ]
    for (key, value) in metadata { fields.append("\(fieldName(key))=\(value)") }
    send(fields)
  }

  /// Upper case letters, digits and underscores, not beginning with an underscore or a digit.
  static func fieldName(_ key: String) -> String {
    let letters = key.utf8.map { byte -> UInt8 in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - 32
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): byte
      default: UInt8(ascii: "_")
      }
    }
    let name = String(decoding: letters, as: UTF8.self)
    return name.first.map { $0 == "_" || $0.isNumber } ?? true ? "X\(name)" : name
  }

  /// A failure is not reported: there is nowhere left to report it to.
  private static func send(_ fields: [String]) {
    let buffers = fields.map { Array($0.utf8) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(buffers.reduce(0) { $0 + $1.count })
    for buffer in buffers { bytes.append(contentsOf: buffer) }
    bytes.withUnsafeMutableBytes { storage in
      guard let base = storage.baseAddress else { return }
      var offset = 0
      let vectors = buffers.map { buffer in
        defer { offset += buffer.count }
        return iovec(iov_base: base + offset, iov_len: buffer.count)
      }
      _ = vectors.withUnsafeBufferPointer { sd_journal_sendv($0.baseAddress, Int32($0.count)) }
    }
  }
}

nonisolated extension Logger.Level {
  /// syslog(3) priorities.
  var syslogPriority: Int {
    switch self {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }
}
