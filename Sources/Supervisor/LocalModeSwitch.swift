import Database
import Engine
import EventLoop
import Glibc
import HostConfiguration
import JSON
import Logging
import StateEngine

/// Keeps in mind what the engine has when local mode begins and, when it ends, takes away what has come
/// since (cloud 8.1).
///
/// The memory is one row of the database. It goes when the clean-up is done, so that a clean-up that was cut
/// short is done again at the next start. Without a memory nothing is removed. The state engine begins no
/// step meanwhile: what the cloud's app gets must not be taken for a rest of local mode. A device that has
/// no cloud has no memory: what is on it is its owner's.
final class LocalModeSwitch {
  private let engine: EngineClient
  private unowned let stateEngine: StateEngine
  private let settings: Settings
  private let store: Store
  private let logger: Logger
  private var isOn: Bool
  private var task: Task<Void, Never>?

  /// Before an engine that does not answer is asked again.
  private static let retryDelay = Duration.seconds(5)
  /// Answers of an engine that cannot list its objects, before the switch goes on without.
  private static let refusalLimit = 12

  init(
    engine: EngineClient, stateEngine: StateEngine, settings: Settings, store: Store, logger: Logger
  ) {
    self.engine = engine
    self.stateEngine = stateEngine
    self.settings = settings
    self.store = store
    self.logger = logger
    isOn = settings.bool(.localMode)
  }

  private var isStored: Bool {
    do throws(DatabaseError) { return try store.snapshots.load() != nil } catch { return false }
  }

  /// Ends what a crash has left open, and follows the setting from now on. Call it before the state
  /// engine starts.
  func start() {
    forgetWhenUnmanaged()
    if isOn, !settings.isUnmanaged, !isStored {
      run { await self.remember() }
    } else if !isOn, isStored {
      run { await self.cleanUp() }
    }
    settings.onChange(of: [.localMode]) { [unowned self] _ in changed() }
    settings.onChange(of: [.apiEndpoint]) { [unowned self] _ in forgetWhenUnmanaged() }
  }

  /// What comes now is the owner's, and must not be taken for a rest of local mode by a cloud that is joined later.
  private func forgetWhenUnmanaged() {
    guard settings.isUnmanaged, isStored else { return }
    do throws(DatabaseError) { try store.snapshots.remove() } catch {
      logger.error("Cannot forget what the engine had before local mode: \(error)")
    }
  }

  private func changed() {
    let isWanted = settings.bool(.localMode)
    guard isWanted != isOn else { return }
    isOn = isWanted
    guard !settings.isUnmanaged else { return }
    logger.notice("Switching logging backend to \(isOn ? "LocalLogBackend" : "BalenaLogBackend")")
    if isOn { run { await self.remember() } } else { run { await self.cleanUp() } }
  }

  /// One switch after another, while the state engine begins nothing: the look under way counts, too.
  private func run(_ work: @escaping () async -> Void) {
    stateEngine.hold()
    let former = task
    task = Task {
      await former?.value
      await stateEngine.stepsEnd()
      await work()
      stateEngine.endHold()
    }
  }

  // MARK: Entering

  /// A memory that is there already, of a time before, knows more.
  private func remember() async {
    guard isOn, !settings.isUnmanaged, !isStored else { return }
    guard let snapshot = await whenItAnswers({ () throws(EngineError) in try await self.current() }) else {
      return logger.error("Leaving local mode will remove nothing: the engine's objects cannot be listed")
    }
    do throws(DatabaseError) {
      try store.snapshots.save(snapshot.text, takenAt: "\(Timestamp(seconds: Int64(Glibc.time(nil))))")
    } catch {
      logger.error("Cannot keep what the engine has; leaving local mode will remove nothing: \(error)")
    }
  }

  /// Waits for an engine that is away: nothing changes meanwhile. nil when it answers and cannot do it.
  private func whenItAnswers<Value>(_ work: () async throws(EngineError) -> Value) async -> Value? {
    var refusals = 0
    var isProblemKnown = false
    while true {
      do throws(EngineError) { return try await work() } catch {
        if error.statusCode != nil { refusals += 1 }
        if !isProblemKnown { logger.warning("Switching local mode waits for the engine: \(error)") }
        isProblemKnown = true
        if refusals == Self.refusalLimit { return nil }
      }
      await pause()
    }
  }

  private func pause() async {
    await withCheckedContinuation { continuation in
      _ = EventLoop.shared.schedule(after: Self.retryDelay, tolerance: .seconds(1)) { continuation.resume() }
    }
  }

  private func current() async throws(EngineError) -> EngineSnapshot {
    var snapshot = EngineSnapshot()
    snapshot.containers = Set(try await engine.listContainers(all: true).map(\.id))
    snapshot.images = Set(try await engine.listImages(digests: false).map(\.id))
    snapshot.volumes = Set(try await engine.listVolumes().compactMap { $0["Name"]?.stringValue })
    snapshot.networks = Set(try await engine.listNetworks().map(\.id))
    return snapshot
  }

  /// The agent's own container, where it runs in one, and what it uses.
  private func own() async throws(EngineError) -> EngineSnapshot {
    var own = EngineSnapshot()
    for container in try await OwnContainer.inspect(engine) {
      if let id = container["Id"]?.stringValue { own.containers.insert(id) }
      if let image = container["Image"]?.stringValue { own.images.insert(image) }
      own.volumes.formUnion((container["Mounts"]?.arrayValue ?? []).compactMap { $0["Name"]?.stringValue })
      let networks = container["NetworkSettings"]?["Networks"]?.objectValue ?? [:]
      for (_, network) in networks {
        if let id = network["NetworkID"]?.stringValue { own.networks.insert(id) }
      }
    }
    return own
  }

  // MARK: Leaving

  private func cleanUp() async {
    guard !isOn else { return }
    let stored: EngineSnapshot?
    do throws(DatabaseError) {
      stored = try store.snapshots.load().flatMap { EngineSnapshot(parsing: $0.snapshot) }
    } catch {
      stored = nil
      logger.error("Cannot read what the engine had before local mode: \(error)")
    }
    if let stored {
      let rest = await whenItAnswers { () throws(EngineError) in
        try await self.current().subtracting(stored, try await self.own())
      }
      if let rest { await remove(rest) }
    } else {
      logger.info("Previous engine snapshot was not stored. Skipping cleanup.")
    }
    do throws(DatabaseError) {
      try store.targets.removeApps(source: "local")
      try store.snapshots.remove()
    } catch {
      logger.error("Cannot forget what local mode has left: \(error)")
    }
  }

  private func remove(_ rest: EngineSnapshot) async {
    for id in rest.containers.sorted() {
      await remove("container", id) { () throws(EngineError) in
        try await self.engine.removeContainer(id, force: true)
      }
    }
    for id in rest.images.sorted() {
      await remove("image", id) { () throws(EngineError) in try await self.engine.removeImage(id, force: true)
      }
    }
    for id in rest.networks.sorted() {
      await remove("network", id) { () throws(EngineError) in try await self.engine.removeNetwork(id) }
    }
    for name in rest.volumes.sorted() {
      await remove("volume", name) { () throws(EngineError) in try await self.engine.removeVolume(name) }
    }
  }

  private func remove(
    _ kind: String, _ name: String, _ work: () async throws(EngineError) -> Void
  ) async {
    do throws(EngineError) {
      try await work()
      logger.info("Removed \(kind) \(name), which came with local mode")
    } catch {
      if error.kind != .status(404) {
        logger.warning("Cannot remove \(kind) \(name) of local mode: \(error)")
      }
    }
  }
}
