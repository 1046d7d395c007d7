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
/// step before the memory is gone: what the cloud's app gets must not be taken for a rest of local mode, now
/// or by a memory that stayed. A device that has no cloud has no memory: what is on it is its owner's.
///
/// A switch ends what is left of the one before. Local mode that is switched on again before all is cleaned up
/// goes on: its memory and its target stay.
final class LocalModeSwitch {
  private let engine: EngineClient
  private unowned let stateEngine: StateEngine
  private let settings: Settings
  private let store: Store
  private let logger: Logger
  private var isOn: Bool
  private var task: Task<Void, Never>?
  /// The file has the memory for as long as the store works on a copy.
  private var isStoredInFile = false

  /// Before an engine that does not answer, or a database that has an error, is asked again.
  private static let retryDelay = Duration.seconds(5)
  /// Refusals of an engine that cannot list its objects, before the switch goes on without; passes in which it
  /// removes nothing, before the rest stays.
  private static let refusalLimit = 12
  /// The engine's own, which it does not remove. `bridge` gets another id at each of its starts.
  private static let engineNetworks: Set = ["bridge", "host", "none"]

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

  /// nil when the database does not tell.
  private var isStored: Bool? {
    do throws(DatabaseError) { return try store.snapshots.load() != nil } catch { return nil }
  }

  /// Ends what a crash has left open, and follows the setting from now on. Call it before the state
  /// engine starts.
  func start() {
    let isStored = isStored
    isStoredInFile = isStored != false
    if settings.isUnmanaged {
      forgetWhenUnmanaged()
    } else if isOn, isStored != true {
      run { await self.remember() }
    } else if !isOn, isStored != false {
      run { if await self.isRemembered() == true { await self.cleanUp() } }
    }
    settings.onChange(of: [.localMode]) { [unowned self] _ in changed() }
    settings.onChange(of: [.apiEndpoint]) { [unowned self] _ in forgetWhenUnmanaged() }
  }

  /// What comes now is the owner's, and must not be taken for a rest of local mode by a cloud that is joined later.
  private func forgetWhenUnmanaged() {
    guard settings.isUnmanaged else { return }
    task?.cancel()
    guard isStored != false else { return }
    run { await self.withDatabase(untilDone: true, self.store.snapshots.remove) }
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
    former?.cancel()
    task = Task {
      await former?.value
      await stateEngine.stepsEnd()
      await work()
      stateEngine.endHold()
    }
  }

  // MARK: Waiting

  /// A later switch has its turn, or the device has become its owner's.
  private var isOver: Bool { Task.isCancelled || settings.isUnmanaged }

  /// Waits for an engine that is away: nothing changes meanwhile. nil when it answers and cannot do it, and when
  /// the switch is over.
  @discardableResult
  private func whenItAnswers<Value>(_ work: () async throws(EngineError) -> Value) async -> Value? {
    var refusals = 0
    var isProblemKnown = false
    while !isOver {
      do throws(EngineError) { return try await work() } catch {
        if isOver { return nil }
        if !error.isWithoutAnswer { refusals += 1 }
        if !isProblemKnown { logger.warning("Switching local mode waits for the engine: \(error)") }
        isProblemKnown = true
        if refusals == Self.refusalLimit { return nil }
      }
      await pause()
    }
    return nil
  }

  /// Waits for a database that has an error: what it does not tell, or keeps, may cost data later. nil when the
  /// switch is over.
  @discardableResult
  private func withDatabase<Value>(
    untilDone: Bool = false, _ work: () throws(DatabaseError) -> Value
  ) async -> Value? {
    var isProblemKnown = false
    while untilDone || !isOver {
      do throws(DatabaseError) { return try work() } catch {
        if !isProblemKnown { logger.error("Switching local mode waits for the database: \(error)") }
        isProblemKnown = true
      }
      await pause()
    }
    return nil
  }

  private func pause() async {
    await withCheckedContinuation { continuation in
      _ = EventLoop.shared.schedule(after: Self.retryDelay, tolerance: .seconds(1)) { continuation.resume() }
    }
  }

  private func isRemembered() async -> Bool? {
    await withDatabase { () throws(DatabaseError) in try self.store.snapshots.load() != nil }
  }

  // MARK: Entering

  /// A memory that is there already is of a start before, or of a clean-up that was not done, and knows more.
  private func remember() async {
    guard await isRemembered() == false else { return }
    let snapshot = await whenItAnswers(current)
    guard !isOver else { return }
    guard let snapshot else {
      return logger.error("Leaving local mode will remove nothing: the engine's objects cannot be listed")
    }
    do throws(DatabaseError) {
      try store.snapshots.save(snapshot.text, takenAt: "\(Timestamp(seconds: Int64(Glibc.time(nil))))")
    } catch {
      logger.error("Cannot keep what the engine has; leaving local mode will remove nothing: \(error)")
    }
  }

  private func current() async throws(EngineError) -> EngineSnapshot {
    var snapshot = EngineSnapshot()
    snapshot.containers = Set(try await engine.listContainers(all: true).map(\.id))
    snapshot.images = Set(try await engine.listImages(digests: false).map(\.id))
    snapshot.volumes = Set(try await engine.listVolumes().compactMap { $0["Name"]?.stringValue })
    let networks = try await engine.listNetworks()
    snapshot.networks = Set(networks.filter { !Self.engineNetworks.contains($0.name) }.map(\.id))
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
    guard let isOff = await withDatabase(isOff) else { return }
    guard isOff else {
      isOn = true
      return await remember()
    }
    guard let row = await withDatabase(store.snapshots.load) else { return }
    if let memory = row.flatMap({ EngineSnapshot(parsing: $0.snapshot) }) {
      await removeAll(since: memory)
      guard !isOver else { return }
    } else {
      logger.info("Previous engine snapshot was not stored. Skipping cleanup.")
    }
    await withDatabase(forget)
  }

  /// A setting that cannot be read counts as off elsewhere; here that would cost what was made in local mode.
  private func isOff() throws(DatabaseError) -> Bool {
    do throws(SettingError) { return try settings.value(.localMode)?.boolValue != true } catch {
      if case .database(let fault) = error { throw fault }
      return true
    }
  }

  private func forget() throws(DatabaseError) {
    // Switched on, and not announced yet: a new target may be among the apps.
    guard try isOff() else { return }
    try store.connection.transaction { () throws(DatabaseError) in
      try store.targets.removeApps(source: "local")
      try store.snapshots.remove()
    }
    if isStoredInFile, let reason = store.volatileReason { throw reason }
  }

  private func removeAll(since memory: EngineSnapshot) async {
    let rest = await whenItAnswers { () throws(EngineError) in
      try await self.current().subtracting(memory, try await self.own())
    }
    guard !isOver else { return }
    guard let rest else {
      return logger.warning("What came with local mode stays: the engine's objects cannot be listed")
    }
    guard let kept = await withDatabase(ofTheCloud) else { return }
    await remove(rest.subtracting(kept))
  }

  /// Volumes that the cloud's target names, and images of its apps, are no rest of local mode, whatever the memory says.
  private func ofTheCloud() throws(DatabaseError) -> EngineSnapshot {
    var kept = EngineSnapshot()
    let apps = try store.targets.volumeNames(besides: "local")
    for (appId, names) in apps { kept.volumes.formUnion(names.map { "\(appId)_\($0)" }) }
    kept.volumes.insert(ExtraFirmware.volume)
    for image in try store.images.all() {
      if let id = image.engineId, let appId = image.appId, apps[appId] != nil { kept.images.insert(id) }
    }
    return kept
  }

  /// What is refused may go once other things are gone: an image, after those that were made of it.
  private func remove(_ rest: EngineSnapshot) async {
    var rest = removals(of: rest)
    var refusedPasses = 0
    while !rest.isEmpty, refusedPasses < Self.refusalLimit {
      if refusedPasses > 0 { await pause() }
      var refused: [Removal] = []
      for var removal in rest {
        guard !isOver else { return }
        do throws(EngineError) {
          try await removal.work()
          logger.info("Removed \(removal.name), which came with local mode")
        } catch  where !error.isNotFound {
          removal.refusal = error
          refused.append(removal)
          if error.isWithoutAnswer { await whenItAnswers(engine.ping) }
        } catch {}
      }
      refusedPasses = refused.count == rest.count ? refusedPasses + 1 : 0
      rest = refused
    }
    for removal in rest {
      guard let refusal = removal.refusal else { continue }
      logger.warning("Cannot remove \(removal.name) of local mode: \(refusal)")
    }
  }

  private struct Removal {
    let name: String
    let work: () async throws(EngineError) -> Void
    var refusal: EngineError?
  }

  private func removals(of rest: EngineSnapshot) -> [Removal] {
    let engine = engine
    let containers = rest.containers.sorted().map { id in
      Removal(name: "container \(id)") { () throws(EngineError) in
        try await engine.removeContainer(id, force: true)
      }
    }
    let images = rest.images.sorted().map { id in
      Removal(name: "image \(id)") { () throws(EngineError) in try await engine.removeImage(id, force: true) }
    }
    let networks = rest.networks.sorted().map { id in
      Removal(name: "network \(id)") { () throws(EngineError) in try await engine.removeNetwork(id) }
    }
    let volumes = rest.volumes.sorted().map { name in
      Removal(name: "volume \(name)") { () throws(EngineError) in try await engine.removeVolume(name) }
    }
    return containers + images + networks + volumes
  }
}
