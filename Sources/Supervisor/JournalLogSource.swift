import Cloud
import Database
import DeviceAPI
import EventLoop
import Journal
import Logging
import StateEngine

/// The journal as the backlog of the cloud's log stream (cloud 4.2).
///
/// Nothing is open while the stream is not wanted. The cursor of what has left the process stands in the
/// database, written at most every ten seconds and at the end: a crash sends so much twice, and nothing
/// is missed that the journal still has. The journal is opened when the containers are known, and those
/// that are gone stay known for a while, also after a restart, as a backlog may have lines of them.
///
/// An agent that has no cursor begins where the agent before it ended, if that was in a container.
final class JournalLogSource: LogSource {
  private let source: () -> JournalReader.Source
  private unowned let engine: StateEngine
  private let store: Store
  private let logger: Logger
  private let drivers: LogDriverCheck
  /// When the agent before this one ended, in microseconds since 1970.
  private var formerEnd: (() async -> UInt64?)?
  private var follower: LogFollower?
  private var start: LogFollower.Start
  /// Of what the stream took first.
  private var beginning: LogFollower.Start
  private var isStopped = false
  private var cursor: String?
  private var isStored: Bool
  private var saving: LoopTimer?
  private var isProblemKnown = false
  private var seenRevision: UInt64 = 0
  private var known = RememberedContainers()
  /// As they stand in the database.
  private var remembered: [String: LoggedContainer] = [:]
  private var remembering: LoopTimer?
  private var waiter: CheckedContinuation<Void, Never>?
  /// Entries that the open journal could not give.
  private var lost = 0
  private var lostPages: UInt64 = 0

  static let cursorKey = "logCursor"
  static let containersKey = "logContainers"
  /// Between a change of the containers and their names being kept.
  static let rememberDelay = Duration.seconds(1)
  /// An agent that ended longer ago is none that this one goes on for.
  static let formerEndLimit: UInt64 = 24 * 3600 * 1_000_000
  static let saveInterval = Duration.seconds(10)
  /// Before the journal is tried again that could not be opened.
  static let retryDelay = Duration.seconds(5)

  init(
    engine: StateEngine, store: Store, logger: Logger, drivers: LogDriverCheck,
    formerEnd: @escaping () async -> UInt64?, source: @escaping () -> JournalReader.Source
  ) {
    self.engine = engine
    self.store = store
    self.logger = logger
    self.drivers = drivers
    self.formerEnd = formerEnd
    self.source = source
    do throws(DatabaseError) { cursor = try store.settings.text(Self.cursorKey) } catch {
      logger.error("Cannot read where the log stream stood: \(error)")
    }
    isStored = cursor != nil
    let now = Self.now
    start = cursor.map { .cursor($0, otherwise: now) } ?? .time(now)
    beginning = start
    guard cursor != nil else { return }
    self.formerEnd = nil
    do throws(DatabaseError) {
      remembered = LoggedContainer.read(try store.settings.text(Self.containersKey) ?? "")
      known = RememberedContainers(remembered)
    } catch {
      logger.error("Cannot read whose lines the log stream had: \(error)")
    }
  }

  /// Microseconds since the epoch.
  private static var now: UInt64 { UInt64(max(CloudTime.milliseconds(), 0)) * 1000 }

  // MARK: Containers

  /// To be called when the containers may have changed.
  func noteContainers() {
    guard engine.current.isComplete, engine.current.revision != seenRevision else { return }
    seenRevision = engine.current.revision
    known.note(engine.loggedContainers)
    follower?.containers = containers
    waiter.take()?.resume()
    if follower != nil { containersChanged() }
  }

  private var containers: [String: LoggedContainer] { known.all }

  private func containersChanged() {
    drivers.look(at: containers)
    guard containers != remembered, remembering?.isScheduled != true else { return }
    remembering = EventLoop.shared.schedule(after: Self.rememberDelay) { [weak self] in self?.remember() }
  }

  /// Whose lines are in the journal, for an agent that comes after a crash.
  private func remember() {
    remembering?.cancel()
    guard containers != remembered, !isStopped else { return }
    do throws(DatabaseError) {
      try store.settings.set(Self.containersKey, to: LoggedContainer.text(containers))
      remembered = containers
    } catch {
      logger.error("Cannot keep whose lines the log stream has: \(error)")
    }
  }

  // MARK: LogSource

  func next() async -> LogBatch? {
    isStopped = false
    while !Task.isCancelled, !isStopped {
      // A line of a container that is not known yet would be kept for a few seconds only.
      if seenRevision == 0 { await change(within: .none) }
      if Task.isCancelled || isStopped || seenRevision == 0 { continue }
      if let formerEnd = formerEnd.take(), let end = await formerEnd() {
        let now = Self.now
        if end < now, now - end < Self.formerEndLimit, start == beginning, cursor == nil, !isStopped {
          start = .time(end)
        }
        continue
      }
      guard let follower = follower ?? open() else {
        await change(within: Self.retryDelay)
        continue
      }
      if let batch = await follower.next() {
        guard follower === self.follower else { continue }
        if batch.lost > lost || batch.lostPages > lostPages {
          logger.warning(
            "A file of the journal was cut off or damaged: \(batch.lostPages - lostPages) pages lost, the cloud's log stream misses entries in \(batch.lost - lost) places"
          )
          (lost, lostPages) = (batch.lost, batch.lostPages)
        }
        if let cursor = batch.cursor { start = .cursor(cursor, otherwise: Self.now) }
        return LogBatch(records: batch.records.map(Self.record), position: batch.cursor)
      }
      guard follower === self.follower else { continue }
      close()
      // Nothing of the journal can be read.
      if !isStopped, !Task.isCancelled { await change(within: Self.retryDelay) }
    }
    return nil
  }

  func delivered(upTo position: String) {
    cursor = position
    guard saving?.isScheduled != true else { return }
    saving = EventLoop.shared.schedule(after: Self.saveInterval, tolerance: .seconds(1)) { [weak self] in
      self?.save()
    }
  }

  func rewind(to position: String?) {
    close()
    start = position.map { .cursor($0, otherwise: Self.now) } ?? beginning
  }

  func stop() {
    isStopped = true
    close()
    waiter.take()?.resume()
    saving?.cancel()
    remembering?.cancel()
    cursor = nil
    start = .now
    beginning = .now
    formerEnd = nil
    guard isStored || !remembered.isEmpty else { return }
    do throws(DatabaseError) {
      try store.settings.remove(Self.cursorKey)
      try store.settings.remove(Self.containersKey)
      isStored = false
      remembered = [:]
    } catch {
      logger.error("Cannot forget where the log stream stood: \(error)")
    }
  }

  /// Keeps the cursor now.
  func save() {
    saving?.cancel()
    remember()
    guard let cursor else { return }
    do throws(DatabaseError) {
      try store.settings.set(Self.cursorKey, to: cursor)
      isStored = true
    } catch {
      logger.error("Cannot keep where the log stream stands: \(error)")
    }
  }

  // MARK: The journal

  private func open() -> LogFollower? {
    // A place in time can be returned to.
    if start == .now { start = .time(Self.now) }
    if cursor == nil { beginning = start }
    do throws(JournalError) {
      let follower = try LogFollower(source(), from: start)
      self.follower = follower
      (lost, lostPages) = (0, 0)
      follower.containers = containers
      containersChanged()
      isProblemKnown = false
      return follower
    } catch {
      if !isProblemKnown {
        logger.warning("Cannot read the journal for the cloud's log stream: \(error.description)")
      }
      isProblemKnown = true
      return nil
    }
  }

  private func close() {
    follower?.close()
    follower = nil
  }

  /// Waits until the containers have changed, or the source is stopped.
  private func change(within delay: Duration?) async {
    let timer = delay.map { delay in
      EventLoop.shared.schedule(after: delay, tolerance: .seconds(1)) { [weak self] in
        self?.waiter.take()?.resume()
      }
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled || isStopped { return continuation.resume() }
        waiter = continuation
      }
    } onCancel: {
      Task { @MainActor in self.waiter.take()?.resume() }
    }
    timer?.cancel()
  }

  private static func record(_ record: Journal.LogRecord) -> Cloud.LogRecord {
    switch record.source {
    case .service(let id, _):
      Cloud.LogRecord(
        message: record.message, timestamp: record.timestamp, isStdErr: record.isError, serviceId: id)
    case .hostUnit, .agent:
      Cloud.LogRecord(
        message: record.message, timestamp: record.timestamp, isStdErr: record.isError, isSystem: true)
    }
  }
}
