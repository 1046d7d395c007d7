import JSON

/// One record of the device's log stream (cloud 4.1).
public nonisolated struct LogRecord: Sendable, Hashable {
  public var message: String
  /// Milliseconds since 1970.
  public var timestamp: Int
  public var isStdErr: Bool
  /// The agent's own, or the host's.
  public var isSystem: Bool
  public var serviceId: Int?
  /// The agent's own: comes when it comes, and does not wait.
  public var isEvent: Bool
  /// Where the source stands after this record; for a source that is told what was handed over.
  public var position: String?

  /// Characters of a message, `[...]` included.
  public static let messageLimit = 10_000
  private static let ending = "[...]"

  public init(
    message: String, timestamp: Int, isStdErr: Bool = false, isSystem: Bool = false, serviceId: Int? = nil,
    isEvent: Bool = false, position: String? = nil
  ) {
    self.message = message
    self.timestamp = timestamp
    self.isStdErr = isStdErr
    self.isSystem = isSystem
    self.serviceId = serviceId
    self.isEvent = isEvent
    self.position = position
  }

  /// The cloud takes a record of the system, or of a service that it knows.
  public var isForCloud: Bool { isSystem || serviceId != nil }

  /// Appends the record and a line break.
  public func write(to output: inout [UInt8]) {
    output.append(contentsOf: #"{"message":"#.utf8)
    JSON.write(string: Self.cut(message), to: &output)
    if isSystem {
      if isStdErr {
        output.append(contentsOf: #","isStdErr":true"#.utf8)
      } else if !isEvent {
        output.append(contentsOf: #","isStdErr":false"#.utf8)
      }
      output.append(contentsOf: #","isSystem":true"#.utf8)
    } else {
      output.append(contentsOf: (isStdErr ? #","isStdErr":true"# : #","isStdErr":false"#).utf8)
    }
    output.append(contentsOf: ",\"timestamp\":\(timestamp)".utf8)
    if let serviceId, !isSystem { output.append(contentsOf: ",\"serviceId\":\(serviceId)".utf8) }
    output.append(contentsOf: "}\n".utf8)
  }

  static func cut(_ message: String) -> String {
    // Bytes bound characters from above, so that the usual line is not counted.
    guard message.utf8.count > messageLimit, message.count > messageLimit else { return message }
    return message.prefix(messageLimit - ending.count) + ending
  }
}

/// Some records, and where their source stands behind them.
public nonisolated struct LogBatch: Sendable {
  public var records: [LogRecord]
  public var position: String?

  public init(records: [LogRecord], position: String?) {
    self.records = records
    self.position = position
  }
}

/// A source of container and host lines that waits while nobody takes them: the journal.
public protocol LogSource: AnyObject {
  /// The next records; waits until there are some. nil when the source was stopped, or the task cancelled.
  func next() async -> LogBatch?
  /// Everything up to this position has been handed to the cloud.
  func delivered(upTo position: String)
  /// Goes on behind a position that was delivered earlier; nil is where the source began.
  func rewind(to position: String?)
  /// Nothing is wanted: closes everything, forgets the position, and begins with what is new when it is
  /// asked again.
  func stop()
}
