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
  static let stepsBackPerTurn = 4
  /// How long lines of a container that nobody knows are kept, and a line is waited for whose end has not come.
  static let patience = Duration.seconds(5)

  private let reader: JournalReader
  private var partials = PartialLines()
  private var unknown = StrangeLines()
  private var late: [LogRecord] = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var isChanged = false
  private var isClosed = false
  private var hasCurrent = false
  /// Number of the current entry, and its time in milliseconds since 1970.
  private var order: UInt64 = 0
  private var timestamp = 0
  /// Number and cursor of an entry that was read.
  private var anchor: (order: UInt64, cursor: String)?
  private var stepsBack = 0
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
      let now = MonotonicTime.read()
      for line in partials.over(at: isAtEnd ? now : nil, timestamp: timestamp, after: Self.patience) {
        give(line, to: &records)
      }
      _ = unknown.take { now - $0.arrived > Self.patience }
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
    let kept = [unknown.oldest, partials.oldest].compactMap(\.self).min { $0.order < $1.order }
    guard let kept else { return reader.cursor }
    return kept.before
  }

  private func otherTurn() async {
    await withCheckedContinuation { continuation in
      EventLoop.shared.enqueue { continuation.resume() }
    }
  }

  /// Waits until there may be more: an entry, a container that is known now, or the end of a line's time.
  private func change() async {
    let timer = partials.firstEnd(after: Self.patience).map { end in
      EventLoop.shared.schedule(after: max(end - .read(), .zero), tolerance: .milliseconds(100)) {
        [weak self] in self?.wake()
      }
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled || isClosed { return continuation.resume() }
        waiter = continuation
      }
    } onCancel: {
      Task { @MainActor in self.wake() }
    }
    timer?.cancel()
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
    stepsBack = 0
    if order > 0, !hasCurrent { anchor = reader.cursor.map { (order, $0) } ?? anchor }
    for _ in 0..<Self.entriesPerTurn {
      guard hasCurrent || reader.next() else { return !reader.skipsDamage() }
      hasCurrent = false
      order += 1
      take(into: &records)
    }
    return false
  }

  /// Takes the current entry.
  private func take(into records: inout [LogRecord]) {
    guard let time = reader.realtime else { return }
    timestamp = Int(time / 1000)
    let isError = reader.withValue("PRIORITY") { $0.count == 1 && $0[0] <= UInt8(ascii: "3") } ?? false
    guard let container = reader.text("CONTAINER_ID_FULL") else {
      guard let unit = reader.text("_SYSTEMD_UNIT"), Self.hostUnits.contains(unit),
        let message = reader.withValue("MESSAGE", Self.text)
      else { return }
      return records.append(LogRecord(.hostUnit, message: message, timestamp: timestamp, isError: isError))
    }
    let stream = PartialLines.Stream(container: container, isError: isError)
    guard isWanted(stream) else { return }
    let part = reader.text("CONTAINER_PARTIAL_ID")
    if part != nil || reader.text("CONTAINER_PARTIAL_MESSAGE") == "true" {
      let isLast = reader.text("CONTAINER_PARTIAL_LAST") == "true"
      return take(
        PartialLines.Part(stream: stream, name: part, isLast: isLast, timestamp: timestamp, time: .read()),
        into: &records)
    }
    if let open = partials.end(stream) {
      guard open.name != nil else {
        // This is its last part, which such engines do not mark.
        let bytes = reader.withValue("MESSAGE") { open.bytes + $0 } ?? open.bytes
        return give(
          bytes.withUnsafeBufferPointer(Self.text), of: stream, timestamp, open.place, to: &records)
      }
      give(open, to: &records)
    }
    if let message = reader.withValue("MESSAGE", Self.text) {
      give(message, of: stream, timestamp, nil, to: &records)
    }
  }

  private func take(_ part: PartialLines.Part, into records: inout [LogRecord]) {
    // The place is found by a step back, which the bytes in the journal's file would not survive.
    guard let text = reader.withValue("MESSAGE", Array.init) else { return }
    for line in text.withUnsafeBufferPointer({ partials.add($0, part, place: place) }) {
      give(line, to: &records)
    }
  }

  /// Of the current entry. A step back costs a search in every file, so that there are few of them in a turn;
  /// beyond, a place further back has to do: what lies between comes twice then.
  private func place() -> PartialLines.Place {
    var before = anchor?.cursor
    if anchor?.order != order - 1, stepsBack < Self.stepsBackPerTurn {
      before = reader.cursorBefore()
      stepsBack += 1
    }
    anchor = reader.cursor.map { (order, $0) } ?? anchor
    return PartialLines.Place(before: before, order: order)
  }

  /// UTF-8, repaired where it is none, without the carriage return that a terminal puts at the end.
  private static func text(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
    String(decoding: bytes.last == 0x0d ? bytes.dropLast() : bytes[...], as: UTF8.self)
  }

  // MARK: Lines

  private func isWanted(_ stream: PartialLines.Stream) -> Bool {
    switch containers[stream.container]?.level {
    case .none?: false
    case .errors: stream.isError
    case .all, nil: true
    }
  }

  private func give(_ line: PartialLines.Line, to records: inout [LogRecord]) {
    // Begun and ended with the current entry: nothing was asked for.
    let place = line.place.order == 0 ? nil : line.place
    give(
      line.bytes.withUnsafeBufferPointer(Self.text), of: line.stream, line.timestamp, place, to: &records)
  }

  /// - Parameter place: nil for the current entry's.
  private func give(
    _ message: String, of stream: PartialLines.Stream, _ timestamp: Int, _ place: PartialLines.Place?,
    to records: inout [LogRecord]
  ) {
    guard isWanted(stream) else { return }
    if let known = containers[stream.container] {
      records.append(
        LogRecord(
          .service(id: known.serviceId, name: known.serviceName), message: message, timestamp: timestamp,
          isError: stream.isError))
    } else {
      unknown.add(
        StrangeLines.Line(
          stream: stream, message: message, timestamp: timestamp, place: place ?? self.place(),
          arrived: .read()))
    }
  }

  private func releaseKnown() {
    for line in unknown.take(where: { containers[$0.stream.container] != nil }) {
      give(line.message, of: line.stream, line.timestamp, line.place, to: &late)
    }
    if !late.isEmpty { wake() }
  }
}
