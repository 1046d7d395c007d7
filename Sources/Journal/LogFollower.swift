import CSystemd
import EventLoop
import Glibc

/// The lines of the services and of some of the host's units, from the journal, as values.
///
/// Model: the engine writes what containers print into the journal, with the container's id. The
/// follower reads the engine's entries on, knows by `containers` whose they are, and hands them out in
/// batches when they are asked for: the journal is the only backlog, so a consumer that waits costs
/// nothing. Entries of containers that are not known yet are kept for a few seconds, because a container
/// writes before anybody has been told of it.
///
/// A batch carries the cursor behind which another follower goes on; the consumer stores it once
/// the records are where they belong.
public final class LogFollower {
  /// Where to begin.
  public nonisolated enum Start: Sendable, Hashable {
    /// With what comes from now on.
    case now
    /// Microseconds since the epoch.
    case time(UInt64)
    /// Behind the entry; when it is gone from the journal, at the time.
    case cursor(String, otherwise: UInt64)
  }

  public nonisolated struct Batch: Sendable {
    public var records: [LogRecord]
    /// Of the last entry that was looked at, or of the one before the oldest entry that is kept: a part of a
    /// line, or a line of a container that is not known. nil while there is none.
    public var cursor: String?
    /// Entries, or stretches of entries, that could not be read, since the start.
    public var lost: Int
    /// Pages of files that were cut off, since the start.
    public var lostPages: UInt64
  }

  /// Units of the engine, and names of its process where it is no unit.
  static let engineUnits = ["balena.service", "balena-engine.service", "docker.service"]
  static let engineCommands = ["balenad", "balena-engine-d", "dockerd"]
  /// The host's units whose lines are forwarded (specification, cloud 4.1).
  static let hostUnits = [
    "os-power-mode.service", "os-fan-profile.service", "nvpmodel.service", "jetson-qspi-manager.service",
    "os-update.service",
  ]
  /// Entries looked at in a turn of the loop.
  static let entriesPerTurn = 64
  /// How long lines of a container that nobody knows are kept, and how many of all such containers.
  static let patience = Duration.seconds(5)
  static let unknownLines = 512

  private struct Unknown {
    let container: String
    let message: String
    let timestamp: Int
    let isError: Bool
    let arrived: MonotonicTime
    let place: PartialLines.Place
  }

  private let reader: JournalReader
  private var partials = PartialLines()
  private var unknown: [Unknown] = []
  private var late: [LogRecord] = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var isChanged = false
  private var isClosed = false
  private var hasCurrent = false
  /// Number of the current entry.
  private var order: UInt64 = 0
  private var turn = MonotonicTime(nanoseconds: 0)

  /// Containers by full id. Others' lines are dropped, after a while.
  public var containers: [String: LoggedContainer] = [:] {
    didSet {
      guard containers != oldValue, !unknown.isEmpty else { return }
      releaseKnown()
    }
  }

  public init(_ source: JournalReader.Source, from start: Start) throws(JournalError) {
    reader = try JournalReader(source)
    do throws(JournalError) {
      var filter = JournalFilter()
      filter.groups = [
        (Self.engineUnits + Self.hostUnits).map { [JournalFilter.Match("_SYSTEMD_UNIT", $0.utf8)] }
          + Self.engineCommands.map { [JournalFilter.Match("_COMM", $0.utf8)] }
      ]
      try reader.add(filter)
    } catch {
      reader.close()
      throw error
    }
    seek(start)
    reader.onChange = { [weak self] in self?.wake() }
  }

  public func close() {
    isClosed = true
    reader.close()
    waiter.take()?.resume()
  }

  private func seek(_ start: Start) {
    switch start {
    case .now:
      reader.seekTail()
      // Only a step makes the end a place in the journal; the entry there is an old one.
      if (reader.previous(1) ?? 0) == 0 { reader.seekHead() }
    case .time(let time): reader.seek(realtime: time)
    case .cursor(let cursor, let time):
      do throws(JournalError) { try reader.seek(cursor: cursor) } catch {
        return reader.seek(realtime: time)
      }
      if reader.next() { hasCurrent = !reader.isAt(cursor: cursor) }
    }
  }

  // MARK: Batches

  /// The next records; waits until there are some. nil when the follower is closed or the task
  /// cancelled.
  public func next() async -> Batch? {
    while !isClosed, !Task.isCancelled {
      if turn == EventLoop.shared.now { await otherTurn() }
      turn = EventLoop.shared.now
      isChanged = false
      var records = late
      late = []
      let isAtEnd = read(into: &records)
      dropOld()
      if !records.isEmpty {
        return Batch(records: records, cursor: position, lost: reader.lost, lostPages: reader.lostPages)
      }
      if reader.hasGivenUp { return nil }
      if isAtEnd, !isChanged, late.isEmpty { await change() }
    }
    return nil
  }

  /// Behind which another follower misses nothing.
  private var position: String? {
    let line = unknown.min { $0.place.order < $1.place.order }?.place
    let part = partials.oldest(at: .read(), within: Self.patience)
    guard let kept = [line, part].compactMap(\.self).min(by: { $0.order < $1.order }) else {
      return reader.cursor
    }
    return kept.before
  }

  private func otherTurn() async {
    await withCheckedContinuation { continuation in
      EventLoop.shared.enqueue { continuation.resume() }
    }
  }

  private func change() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled || isClosed { return continuation.resume() }
        waiter = continuation
      }
    } onCancel: {
      Task { @MainActor in self.wake() }
    }
  }

  private func wake() {
    isChanged = true
    waiter.take()?.resume()
  }

  // MARK: Entries

  /// - Returns: true at the end of the journal.
  private func read(into records: inout [LogRecord]) -> Bool {
    reader.enter()
    defer { reader.leave() }
    for _ in 0..<Self.entriesPerTurn {
      guard hasCurrent || reader.next() else { return !reader.skipsDamage() }
      hasCurrent = false
      order += 1
      if let record = record() { records.append(record) }
    }
    return false
  }

  private func record() -> LogRecord? {
    guard let time = reader.realtime else { return nil }
    let timestamp = Int(time / 1000)
    let isError = reader.withValue("PRIORITY") { $0.count == 1 && $0[0] <= UInt8(ascii: "3") } ?? false
    guard let container = reader.text("CONTAINER_ID_FULL") else {
      guard let unit = reader.text("_SYSTEMD_UNIT"), Self.hostUnits.contains(unit),
        let message = reader.withValue("MESSAGE", Self.text)
      else { return nil }
      return LogRecord(.hostUnit, message: message, timestamp: timestamp, isError: isError)
    }
    if let known = containers[container], known.level == .none || known.level == .errors && !isError {
      return nil
    }
    guard let (message, first) = wholeLine(container) else { return nil }
    guard let known = containers[container] else {
      let place = first ?? PartialLines.Place(before: reader.cursorBefore(), order: order, time: .read())
      keep(
        Unknown(
          container: container, message: message, timestamp: timestamp, isError: isError, arrived: .read(),
          place: place))
      return nil
    }
    return LogRecord(
      .service(id: known.serviceId, name: known.serviceName), message: message, timestamp: timestamp,
      isError: isError)
  }

  /// The message, or with the last part of a long one all of it and the place of its first part.
  private func wholeLine(_ container: String) -> (String, PartialLines.Place?)? {
    let part = reader.text("CONTAINER_PARTIAL_ID")
    guard part != nil || reader.text("CONTAINER_PARTIAL_MESSAGE") == "true" else {
      return reader.withValue("MESSAGE", Self.text).map { ($0, nil) }
    }
    let isLast = reader.text("CONTAINER_PARTIAL_LAST") == "true"
    let key = "\(container)/\(part ?? "")"
    let place =
      partials.place(of: key)
      ?? PartialLines.Place(before: isLast ? nil : reader.cursorBefore(), order: order, time: .read())
    let line =
      reader.withValue("MESSAGE") { partials.add($0, key: key, isLast: isLast, place: place) } ?? nil
    return line.map { ($0.withUnsafeBufferPointer(Self.text), place.order == order ? nil : place) }
  }

  /// UTF-8, repaired where it is none, without the carriage return that a terminal puts at the end.
  private static func text(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
    String(decoding: bytes.last == 0x0d ? bytes.dropLast() : bytes[...], as: UTF8.self)
  }

  // MARK: Containers that are not known yet

  private func keep(_ line: Unknown) {
    if unknown.count >= Self.unknownLines { unknown.removeFirst() }
    unknown.append(line)
  }

  private func dropOld() {
    let now = MonotonicTime.read()
    unknown.removeAll { now - $0.arrived > Self.patience }
  }

  private func releaseKnown() {
    var rest: [Unknown] = []
    for line in unknown {
      guard let known = containers[line.container] else {
        rest.append(line)
        continue
      }
      if known.level == .none || known.level == .errors && !line.isError { continue }
      late.append(
        LogRecord(
          .service(id: known.serviceId, name: known.serviceName), message: line.message,
          timestamp: line.timestamp, isError: line.isError))
    }
    unknown = rest
    if !late.isEmpty { wake() }
  }
}
