import CSystemd
import EventLoop

/// The journal as a stream of bytes, made while it is asked for.
///
/// Model: the client's socket pulls. `next()` formats until a piece is full, or until it has looked
/// at as many entries as one turn of the loop may cost, and lets the loop and other streams have a turn in
/// between.
/// Nothing is queued: what was not asked for is still in the journal. At the end a following stream
/// sleeps until the journal changes; others end.
///
/// journald tells of an entry by a timer of 250 ms with an accuracy of as much again, and `journalctl --follow`
/// has it then. Entries seldom come alone: for a while after each, a following stream looks for the next one
/// without being told, which is a read of mapped memory. Where nothing is written nothing looks.
public final class JournalStream {
  /// A piece is handed on when it has grown to this size.
  static let pieceBytes = 64 * 1024
  /// Entries looked at before others have their turn. A plain entry costs a few microseconds.
  static let entriesPerTurn = 256
  /// An entry costs more where many units, files or a long search have to be gone through.
  static let turnTime = Duration.milliseconds(3)
  /// Steps back at once.
  private static let stride = 16
  /// `journalctl --follow` without `--lines`.
  static let followedCount = 10

  /// How long after an entry the next one is looked for, and how often: first, and then.
  static let attention = Duration.seconds(5)
  static let closeAttention = Duration.seconds(1)
  static let closeLook = Duration.milliseconds(10)
  static let look = Duration.milliseconds(20)

  private enum Phase { case seeking, counting(left: Int), reading, ended }

  private let query: JournalQuery
  private let reader: JournalReader
  private let test: EntryTest?
  private var writer: EntryWriter
  private var phase = Phase.seeking
  /// The reader stands on an entry that was not looked at yet.
  private var hasCurrent = false
  private var shown = 0
  private var isWaited = false
  private var limit: Int?
  private var lastBoot: Boot?
  private var waiter: CheckedContinuation<Void, Never>?
  private var isChanged = false
  private var timer: LoopTimer?
  private var lastEntry: MonotonicTime?

  /// Entries, or stretches of entries, that could not be read so far.
  public var lost: Int { reader.lost }
  /// Called when more was lost: stretches or entries, and pages of files that were cut off.
  public var onLoss: ((_ lost: Int, _ pages: UInt64) -> Void)?
  private var told: (lost: Int, pages: UInt64) = (0, 0)

  /// - Throws: when the journal cannot be opened, or the cursor is none.
  public init(_ source: JournalReader.Source, _ query: JournalQuery) throws(JournalError) {
    self.query = query
    LocalZone.refresh()
    reader = try JournalReader(source)
    writer = EntryWriter(format: query.format, showsAll: query.showsAll)
    // libsystemd would go from one to the other for as long as they have no entry in common.
    let testsPriority = !(query.filter.groups.isEmpty && query.unitGlobs.isEmpty)
    test = EntryTest(query, testsPriority: testsPriority)
    limit = query.count
    if query.follows, query.since == nil, query.cursor == nil, limit == nil { limit = Self.followedCount }
    do throws(JournalError) {
      var filter = query.filter
      if let priority = query.priority, !testsPriority { filter.require(priorityUpTo: priority) }
      if !query.unitGlobs.isEmpty {
        let units = UnitName.fields.flatMap { reader.values(of: $0) }
        let matching = Set(units.filter { unit in query.unitGlobs.contains { UnitName.matches($0, unit) } })
        if matching.isEmpty { phase = .ended }
        filter.require(units: matching.sorted { $0.lexicographicallyPrecedes($1) })
      }
      if query.follows, query.cursor == nil, let boot = reader.followedBoot() { filter.require(boot: boot) }
      try reader.add(filter)
      if let cursor = query.cursor { try reader.seek(cursor: cursor) }
    } catch {
      reader.close()
      throw error
    }
    reader.onChange = { [unowned self] in changed() }
  }

  /// Lets go of the journal. A waiting `next()` returns nil.
  public func close() {
    phase = .ended
    timer?.cancel()
    timer = nil
    reader.close()
    waiter.take()?.resume()
  }

  /// The next bytes, about a piece's worth; nil at the end.
  public func next() async -> [UInt8]? {
    while true {
      await JournalTurns.shared.next()
      // What was told of on the way to the limit comes behind it.
      if isChanged, let limit, shown >= limit { isWaited = true }
      isChanged = false
      let isAtEnd = fill()
      tellOfLoss()
      if writer.out.count >= Self.pieceBytes || isAtEnd && writer.out.count > 0 {
        let piece = writer.out.array()
        writer.out.removeAll(keeping: EntryWriter.bufferBytes)
        return piece
      }
      if case .ended = phase { return nil }
      if Task.isCancelled { return nil }
      if isAtEnd, !isChanged { await change() }
    }
  }

  private func tellOfLoss() {
    guard reader.lost > told.lost || reader.lostPages > told.pages else { return }
    onLoss?(reader.lost - told.lost, reader.lostPages - told.pages)
    told = (reader.lost, reader.lostPages)
  }

  // MARK: Waiting

  private func change() async {
    isWaited = true
    scheduleLook()
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled { return continuation.resume() }
        waiter = continuation
      }
    } onCancel: {
      Task { @MainActor in self.waiter.take()?.resume() }
    }
  }

  private func scheduleLook() {
    guard let lastEntry else { return }
    let now = EventLoop.shared.now
    let age = now - lastEntry
    guard age < Self.attention else { return }
    let delay = Self.untilShared(age < Self.closeAttention ? Self.closeLook : Self.look, at: now)
    if let timer { return timer.restart(after: delay) }
    timer = EventLoop.shared.schedule(after: delay) { [unowned self] in changed() }
  }

  /// Until the next moment at which all streams look that look this often: they share the wake-up.
  nonisolated static func untilShared(_ interval: Duration, at now: MonotonicTime) -> Duration {
    let length = UInt64(interval / .nanoseconds(1))
    return .nanoseconds(Int64(length - now.nanoseconds % length))
  }

  private func changed() {
    isChanged = true
    waiter.take()?.resume()
  }

  // MARK: Reading

  /// One turn's work.
  ///
  /// - Returns: true when there is nothing more to read for now.
  private func fill() -> Bool {
    reader.enter()
    defer { reader.leave() }
    if case .seeking = phase { seek() }
    if case .counting = phase, !countBack() { return false }
    guard case .reading = phase else { return true }
    let turnEnd = MonotonicTime.read() + Self.turnTime
    for _ in 0..<Self.entriesPerTurn {
      if writer.out.count >= Self.pieceBytes { return false }
      if let limit, shown >= limit, !(query.follows && isWaited) { return atEnd() }
      guard hasCurrent || reader.next() else {
        if reader.skipsDamage() { return false }
        if isWhole { reader.noteEndOfAll() }
        return reader.hasGivenUp ? end() : atEnd()
      }
      hasCurrent = false
      if let until = query.until, let time = reader.realtime, time > until { return atEnd() }
      show()
      if MonotonicTime.read() >= turnEnd { return false }
    }
    return false
  }

  /// Every entry of the journal is looked at.
  private var isWhole: Bool {
    !query.follows && query.filter.groups.isEmpty && query.unitGlobs.isEmpty && query.priority == nil
      && query.count == nil
      && query.cursor == nil && query.since == nil
  }

  private func show() {
    if let test, !test.isEntry(reader) { return }
    if !query.format.isQuiet, let boot = reader.boot {
      if let lastBoot, lastBoot != boot { writer.writeBoot(boot) }
      lastBoot = boot
    }
    if let test, !test.accepts(reader) { return }
    if !writer.write(reader.journal) { reader.noteUnreadable() }
    if isWaited { lastEntry = EventLoop.shared.now }
    shown += 1
  }

  private func atEnd() -> Bool { query.follows ? true : end() }

  private func end() -> Bool {
    if shown == 0, !query.format.isQuiet, !query.follows { writer.writeNoEntries() }
    phase = .ended
    return true
  }

  // MARK: The beginning

  private func seek() {
    phase = .reading
    if let cursor = query.cursor {
      guard reader.next() else { return }
      // The cursor's entry itself has been seen; if it is gone, what follows it has not.
      hasCurrent = !reader.isAt(cursor: cursor)
    } else if let since = query.since {
      reader.seek(realtime: since)
    } else if let limit {
      reader.seekTail()
      phase = .counting(left: limit)
    } else {
      reader.seekHead()
    }
  }

  /// Goes back from the end until enough entries lie ahead.
  ///
  /// - Returns: false when the turn is over before that.
  private func countBack() -> Bool {
    guard case .counting(var left) = phase else { return true }
    var budget = Self.entriesPerTurn
    let turnEnd = MonotonicTime.read() + Self.turnTime
    while left > 0, budget > 0, MonotonicTime.read() < turnEnd {
      let step = test == nil ? min(left, budget, Self.stride) : 1
      guard let moved = reader.previous(step) else {
        hasCurrent = false
        phase = .reading
        return true
      }
      if moved > 0 { hasCurrent = true }
      budget -= step
      if test == nil || test?.accepts(reader) == true { left -= moved }
      if moved < step { left = 0 }
    }
    phase = left > 0 ? .counting(left: left) : .reading
    // Behind the end of nothing, the next step would be to the newest entry of those that come.
    if left == 0, !hasCurrent { reader.seekHead() }
    return left == 0
  }
}
