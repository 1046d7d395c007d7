import DequeModule

/// What waits for the log stream: a few lines of services, whose source waits when there is no more
/// room, and a bounded number of system events, of which the newest are kept.
nonisolated struct LogQueue {
  /// Bytes of lines of services that wait here; the backlog stays in the journal.
  static let byteLimit = 64 * 1024
  /// What a record costs beside its message; without it empty lines would have no bound.
  static let recordCost = 96
  /// System events that wait here, about 100 bytes each.
  static let systemLimit = 500

  /// Of a connection that died: they go first.
  private var returned = Deque<LogRecord>()
  private var lines = Deque<LogRecord>()
  private var system = Deque<LogRecord>()
  private var bytes = 0
  private var suppressed = 0
  /// Records that went nowhere since the start of the process.
  private(set) var dropped = 0

  var isEmpty: Bool { returned.isEmpty && lines.isEmpty && system.isEmpty }
  var hasRoom: Bool { bytes < Self.byteLimit }

  mutating func add(_ record: LogRecord) {
    if record.isEvent {
      system.append(record)
      if system.count > Self.systemLimit {
        system.removeFirst()
        suppressed += 1
        dropped += 1
      }
    } else {
      lines.append(record)
      bytes += Self.cost(of: record)
    }
  }

  private static func cost(of record: LogRecord) -> Int { record.message.utf8.count + recordCost }

  /// Takes back what was not handed over.
  mutating func putBack(_ records: [LogRecord]) {
    returned.prepend(contentsOf: records)
    while returned.count > Self.systemLimit {
      returned.removeFirst()
      suppressed += 1
      dropped += 1
    }
  }

  /// Forgets what comes of the source again.
  mutating func removeLines() {
    lines = []
    returned.removeAll { !$0.isEvent }
    bytes = 0
  }

  /// What to send next: records that cost up to `limit` bytes, and at least one.
  ///
  /// - Parameter now: milliseconds since 1970, for the record that says what was suppressed.
  mutating func take(limit: Int, now: Int) -> [LogRecord] {
    var taken: [LogRecord] = []
    var size = 0
    if suppressed > 0 {
      taken.append(
        LogRecord(
          message: "Warning: Suppressed \(suppressed) message(s) due to high load", timestamp: now,
          isStdErr: true, isSystem: true, isEvent: true))
      suppressed = 0
    }
    while size < limit, let record = returned.popFirst() {
      size += Self.cost(of: record)
      taken.append(record)
    }
    while size < limit, let record = system.popFirst() ?? lines.popFirst() {
      size += Self.cost(of: record)
      if !record.isEvent { bytes -= Self.cost(of: record) }
      taken.append(record)
    }
    return taken
  }

  /// Drops everything.
  mutating func clear() {
    let lost = dropped + returned.count + lines.count + system.count
    self = LogQueue()
    dropped = lost
  }
}
