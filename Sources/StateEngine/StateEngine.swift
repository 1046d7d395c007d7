public import Database
public import Engine
import EventLoop
import HostConfiguration
import JSON
public import Logging
public import Model

/// Moves the device from its current state to its target state, and keeps it there.
///
/// One task, `run`, waits for something to have changed: an event of the engine, a step that
/// ended, a new target, a delay that is over. It then brings the current state up to date,
/// plans (a pure function), and starts the steps of the plan that are not already under way.
/// Steps run at the same time as tasks of their own; each has a subject (the service, image,
/// network, … that it changes), and no two steps of one subject run together.
///
/// A step that fails makes its app wait with a growing delay; other apps go on. A pull that
/// fails makes only its image wait. Nothing is planned while the engine is out of sight: it is
/// asked again with a growing delay, and the log says so once.
public final class StateEngine {
  public let current: CurrentState
  public let images: ImageManager
  public let locks: UpdateLocks
  public let decisions: DecisionLog
  public let store: Store

  /// What to do and what each app waits for, as of the last look.
  public internal(set) var plan = Plan()
  /// The rows of the target, host apps and the agent's own included.
  public private(set) var storedTarget: [StoredTargetApp] = []
  public internal(set) var commits: [Int: String] = [:]
  /// Why the engine cannot be used; nil when it can.
  public private(set) var engineProblem: String?
  /// Goes up when anything that the API shows may have changed.
  public private(set) var revision: UInt64 = 0
  /// Called at every change, after `revision` went up.
  public var onChange: () -> Void = {}

  /// All of the target is reached, or was never set.
  public internal(set) var isSettled = false
  public internal(set) var isUpdateFailed = false
  public internal(set) var counters = StateEngineCounters()
  /// Images that were there when the target was last reached, in `ImageManager.pullCount`.
  var pullsWhenSettled = 0
  /// By app id: the lock of a user that was last in the way.
  var lockConflicts: [Int: LockConflict] = [:]
  /// Of the locks that are in the way, by app.
  var lockWatchers: [Int: FileWatcher] = [:]
  /// How soon an app is tried again whose lock goes, comes and goes.
  static let lockPause = Duration.seconds(1)

  let executor: StepExecutor
  let engine: EngineClient
  let target: TargetBuilder
  let logger: Logger
  weak var host: (any StateEngineHost)?

  let wake = WakeSignal()
  /// When the look that is under way began.
  private(set) var lookStart: MonotonicTime?
  var silenceTimer: LoopTimer?
  var wakeTimer: LoopTimer?
  var eventTimer: LoopTimer?
  private var resyncTimer: LoopTimer?
  var inFlight: [String: InFlight] = [:]
  var appDelays: [Int: RetryDelay] = [:]
  var progress = ProgressGuard()
  var trials = UpdateTrials()
  var ownStops = OwnStops()
  /// By app id: what it was last said to wait for.
  var notedWaits: [Int: [String]] = [:]
  var deviceDelay: RetryDelay
  private var engineDelay = RetryDelay(limit: .seconds(30))
  /// By app id: since when it waits for dependencies and has nothing to do.
  var dependencyWaits: [Int: MonotonicTime] = [:]
  var isTargetSet = false
  /// The database could not be read when it last had to be.
  private var isTargetUnread = false
  var isForced = false
  var lookWaiters: [CheckedContinuation<Void, Never>] = []

  // Work of the API, see StateEngine+Actions.
  var actionQueues: [Int: FairMutex] = [:]
  var intermediate: [Int: IntermediateTarget] = [:]
  var heldApps: Set<Int> = []
  var actionFailures: [Int: (step: String, error: StepError)] = [:]
  /// Full id of the container that the agent itself runs in: its lines are nobody's. nil outside of one.
  public var ownContainer: String?
  /// Nothing of the target is enforced yet: what its services need is still being prepared.
  public var isHeld: Bool { holds > 0 }
  private var holds = 0
  /// A reboot, a shutdown or the agent's end is on its way: no step is begun any more.
  public var isShuttingDown: Bool { !endings.isEmpty }
  var endings: Set<Ending> = []
  var hostEnding: LoopTimer?
  /// Called when a reboot or shutdown that the agent asks for begins, with true: the API stops taking
  /// requests; and with false when the device did not go down after all.
  public var onShutdown: (_ isShuttingDown: Bool) -> Void = { _ in }
  private var hasRepairedImages = false
  private var tasks: [Task<Void, Never>] = []
  /// Of `storedTarget`.
  private var loadedSource: String?
  var diedContainers: Set<String> = []

  /// Events come in bursts; what they say is read this much later, once.
  static let eventWindow = Duration.milliseconds(20)
  /// Everything is read again this often, in case an event was lost.
  static let resyncInterval = Duration.seconds(900)
  static let resyncTolerance = Duration.seconds(120)

  /// Times that what others change is read again before a plan.
  static let readingLimit = 3

  /// A call of the API and a reboot wait this long for dependencies that may yet be met.
  static let dependencyPatience = Duration.seconds(60)

  /// A try may come this much later than announced, together with something else.
  static let retryTolerance = Duration.milliseconds(250)

  struct InFlight {
    let appId: Int?
    let step: Step
    let since: MonotonicTime
    let task: Task<Void, Never>
    /// It was said that it takes long.
    var isSaidToBeLate = false
  }

  public init(
    engine: EngineClient, store: Store, locks: UpdateLocks, host: any StateEngineHost, logger: Logger
  ) {
    self.engine = engine
    self.store = store
    self.locks = locks
    self.host = host
    self.logger = logger
    deviceDelay = RetryDelay(limit: host.pollInterval)
    current = CurrentState(engine: engine, logger: logger)
    images = ImageManager(engine: engine, current: current, store: store, logger: logger)
    images.host = host
    decisions = DecisionLog(logger: logger)
    target = TargetBuilder(engine: engine, logger: logger)
    executor = StepExecutor(
      engine: engine, current: current, images: images, locks: locks, store: store, host: host,
      logger: logger)
    images.onChange = { [unowned self] in changed() }
    current.onChange = { [unowned self] in changed() }
    executor.onHandover = { [unowned self] in wake.set() }
    locks.isAtRest = { [unowned self] in isAtRest($0) }
    executor.reboot = { [unowned self] () throws(StepError) in try await rebootStep() }
  }

  // MARK: Starting and triggering

  /// Begins: listens to the engine and enforces the stored target, if there ever was one.
  public func start() {
    loadFailures()
    reloadTarget()
    loadOwnStops()
    tasks.append(Task { await self.run() })
    tasks.append(Task { await self.listen() })
    resyncTimer = EventLoop.shared.schedule(
      after: Self.resyncInterval, tolerance: Self.resyncTolerance
    ) { [unowned self] in
      current.invalidate()
      if isTargetUnread { reloadTarget() }
      wake.set()
      resyncTimer?.restart(after: Self.resyncInterval)
    }
  }

  /// The target as it was last mapped, host apps and the agent's own included. Mapping takes a while:
  /// `targetOutlines` are always there.
  public var targetApps: [App] { target.apps }

  /// What is needed of `targetApps` at any time.
  public var targetOutlines: [TargetOutline] { target.outlines }

  /// `targetOutlines` are of the stored target, and that of the source that now counts: not of a cloud that the
  /// device has left, nor of local mode.
  public var isTargetMapped: Bool { loadedSource == host?.targetSource && target.isCurrent }

  /// Looks again at target and current state.
  ///
  /// - Parameters:
  ///   - force: take update locks even from those who hold them, until the target is reached or
  ///     another call cancels.
  ///   - cancel: give up downloads that the target does not want any more and the force that
  ///     somebody asked for before, and try again at once what failed before.
  public func trigger(force: Bool = false, cancel: Bool = false) {
    isForced = force || isForced && !cancel
    isSettled = false
    if cancel || force {
      appDelays = [:]
      deviceDelay.succeed()
      progress.forgetAll()
    }
    reloadTarget()
    if cancel {
      let wanted = Set(target.imageNames)
      for (_, work) in inFlight {
        if case .fetch(let row) = work.step, !wanted.contains(row.name) { work.task.cancel() }
      }
    }
    changed()
    wake.set()
  }

  private func reloadTarget() {
    guard let host else { return }
    do throws(DatabaseError) {
      let source = host.targetSource
      let isSet = try store.targets.isSet()
      let rows = isSet ? try store.targets.targetRows(source: source) : []
      commits = try store.commits.all()
      storedTarget = rows
      loadedSource = source
      isTargetSet = isSet
      isTargetUnread = false
    } catch {
      // What was read before counts on: half a target is none.
      isTargetUnread = true
      return logger.error("Cannot read the target state: \(error)")
    }
    target.load(storedTarget)
    trials.forget(unless: storedTarget)
    saveFailures()
    images.retain(Set(target.imageNames))
    changed()
  }

  /// Begins no step for the target until `endHold` was called as often. Steps under way go on.
  public func hold() {
    holds += 1
    locks.restMayHaveBegun()
  }

  /// Returns when no step is under way that changes the device; downloads go on.
  public func stepsEnd() async {
    while inFlight.values.contains(where: { !$0.step.isFetch && !$0.step.isLockRequest }) { await lookEnds() }
  }

  /// Ends one `hold`.
  public func endHold() {
    holds -= 1
    guard !isHeld else { return }
    current.invalidate()
    trigger()
  }

  func changed() {
    revision += 1
    locks.restMayHaveBegun()
    onChange()
  }

  /// True while there is something to do, waits and delays included.
  public var isApplying: Bool { isTargetSet && !isSettled || !intermediate.isEmpty }

  /// Nothing to do, held back, a download under way, or nothing that takes longer than twice the poll
  /// interval: neither a look at the device nor a step (http-api 7). What waits, for a lock, a
  /// dependency or its next try, does not hang. A container may take its time to stop.
  public var isAlive: Bool {
    guard isApplying, !isHeld, images.downloading.isEmpty, let host else { return true }
    let now = MonotonicTime.read()
    let limit = host.pollInterval * 2
    if let lookStart, now - lookStart > limit { return false }
    return inFlight.values.allSatisfy { now - $0.since < limit + $0.step.grace }
  }

  // MARK: The loop

  private func run() async {
    wake.set()
    while !Task.isCancelled {
      await wake.wait()
      lookStart = .read()
      watchForSilence()
      defer {
        lookStart = nil
        endWatchForSilence()
      }
      do throws(EngineError) {
        try await look()
        if engineProblem != nil {
          logger.notice("The engine answers again")
          engineProblem = nil
          changed()
        }
        engineDelay.succeed()
      } catch {
        noteEngineProblem(error)
      }
      if inFlight.isEmpty, intermediate.isEmpty { target.letGo() }
      let waiters = lookWaiters
      lookWaiters = []
      for waiter in waiters { waiter.resume() }
      locks.restMayHaveBegun()
    }
  }

  /// Returns when the loop has next looked at the device, whether or not it could.
  func lookEnds() async {
    await withCheckedContinuation { lookWaiters.append($0) }
  }

  private func noteEngineProblem(_ error: EngineError) {
    let delay = engineDelay.fail(at: .read())
    noteEngineProblem(error.message)
    wakeAfter(delay)
  }

  func noteEngineProblem(_ message: String) {
    guard engineProblem != message else { return }
    logger.error("The engine cannot be used: \(message)")
    engineProblem = message
    changed()
  }

  private func look() async throws(EngineError) {
    guard let host, !isShuttingDown else { return }
    await host.configureDevice()
    let revisionBefore = current.revision
    let wasTargetMapped = target.isCurrent
    // Whatever a step of ours changes while something is read is read again before the plan is
    // made. What others change is too, but not for ever: a container that ends at once and again
    // would keep everything waiting.
    var rounds = 0
    repeat {
      rounds += 1
      try await current.refresh()
      if !hasRepairedImages {
        hasRepairedImages = true
        await images.repair()
      }
      try await target.build(
        context: host.mappingContext(supervisorGateway: current.supervisorGateway),
        inventory: images.inventory, apiKey: host.supervisorAPIKey)
    } while current.hasOwnChanges || current.isStale && rounds < Self.readingLimit
    guard !isShuttingDown else { return }
    for line in target.takeNewProblems() {
      host.report(
        .targetStateRejection, text: "\(SystemEvent.targetStateRejection.humanName): \(line)", isError: true)
    }
    guard !isHeld else { return changed() }

    let now = MonotonicTime.read()
    reviewOwnStops(at: now)
    let targetApps = target.heldApps()
    let proofs = judgeTrials(of: targetApps, at: now)
    plan = Planner.plan(input(at: now, target: targetApps, proofs: proofs, host: host))
    counters.plans += 1
    noteDependencyWaits(at: now)
    noteOwnStops(plan.steps.filter { inFlight[$0.subject] == nil })
    var started = 0
    for step in plan.steps where begin(step) { started += 1 }
    settle(started: started)
    scheduleRetry(after: now)
    if started > 0 || current.revision != revisionBefore || !wasTargetMapped { changed() }
  }

  private func input(
    at now: MonotonicTime, target: [App], proofs: [String: Proof], host: any StateEngineHost
  ) -> PlannerInput {
    var input = PlannerInput()
    input.current = allCurrentApps
    input.proofs = proofs
    input.failedUpdates = trials.waiting(at: now)
    // Before a target was ever received, what runs is left alone.
    input.target = isTargetSet ? target : input.current
    input.images = images.inventory
    input.downloading = images.downloading
    input.imageBackOff = images.backOff.waiting(at: now)
    input.agentImage = images.agentImage
    input.ignoredCleanUps = images.ignoredCleanUps(at: now)
    input.locks = locks.held
    input.leftoverLocks = locks.leftovers
    input.commits = commits
    input.handovers = Set(executor.handovers.keys)
    input.ownStops = ownStops.ids
    input.force = isForced || host.isLockOverridden
    input.keepImages = host.isLocalMode
    input.keepVolumes = host.isLocalMode
    input.reboot = host.rebootState
    // A supervisor network that cannot be made costs the API's users, not everyone.
    input.isDevicePaused = deviceDelay.isWaiting(at: now)
    input.supervisorNetwork = input.isDevicePaused ? .ready : current.supervisorNetwork
    input.isExtraFirmwareReady =
      input.isDevicePaused || current.hasExtraFirmwareVolume && host.isExtraFirmwareNamed
    let actions = heldApps.union(actionFailures.keys)
    input.pausedApps = Set(appDelays.filter { $0.value.isWaiting(at: now) }.keys)
      .subtracting(intermediate.keys).union(actions)
    input.restingApps = Set(appDelays.filter { $0.value.isLong(at: now) }.keys).subtracting(actions)
    input.intermediate = intermediate
    input.impatientApps = Set(dependencyWaits.keys.filter { isImpatient($0, at: now) })
    return input
  }

  /// The device's apps as the engine shows them, without containers that are only kept for the
  /// case that an update fails.
  public var currentApps: [App] {
    allCurrentApps.map { app in
      var app = app
      app.services = app.services.withoutSetAside
      return app
    }
  }

  var allCurrentApps: [App] {
    var imageNames: [ServiceRelease: String] = [:]
    for row in images.rows {
      let release = ServiceRelease(appId: row.appId, service: row.serviceName, commit: row.commit)
      if imageNames[release] == nil { imageNames[release] = row.name }
    }
    let order = current.services
      .map { (appId: $1.appId, name: $1.name, container: $1.container?.id ?? "", key: $0) }
      .sorted { ($0.appId, $0.name, $0.container) < ($1.appId, $1.name, $1.container) }
    let services = order.compactMap { entry -> Service? in
      guard var service = current.services[entry.key] else { return nil }
      let release = ServiceRelease(appId: service.appId, service: service.name, commit: service.commit)
      if let name = imageNames[release] { service.imageName = name }
      return service
    }
    return App.groupingCurrent(
      services: services, networks: Array(current.networks.values),
      volumes: Array(current.volumes.values), commits: commits)
  }
}

/// What a row of the image table is found by for a container.
private struct ServiceRelease: Hashable {
  var appId: Int?
  var service: String?
  var commit: String?
}
