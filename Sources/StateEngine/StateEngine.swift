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
  public private(set) var plan = Plan()
  /// The target as it was last mapped, host apps and the agent's own included.
  public private(set) var targetApps: [App] = []
  public private(set) var storedTarget: [TargetApp] = []
  public private(set) var commits: [Int: String] = [:]
  /// Why the engine cannot be used; nil when it can.
  public private(set) var engineProblem: String?
  /// Goes up when anything that the API shows may have changed.
  public private(set) var revision: UInt64 = 0
  /// Called at every change, after `revision` went up.
  public var onChange: () -> Void = {}

  /// All of the target is reached, or was never set.
  public private(set) var isSettled = false
  public private(set) var isUpdateFailed = false

  let executor: StepExecutor
  private let engine: EngineClient
  private let target: TargetBuilder
  private let logger: Logger
  weak var host: (any StateEngineHost)?

  private let wake = WakeSignal()
  private var lastProgress = MonotonicTime.read()
  private var wakeTimer: LoopTimer?
  private var eventTimer: LoopTimer?
  private var resyncTimer: LoopTimer?
  private var inFlight: [String: InFlight] = [:]
  private var appDelays: [Int: RetryDelay] = [:]
  private var repeats: [String: (planned: PlannedStep, count: Int)] = [:]
  private var deviceDelay: RetryDelay
  private var engineDelay = RetryDelay(limit: .seconds(30))
  private var isTargetSet = false
  private var isForced = false
  private var hasRepairedImages = false
  private var tasks: [Task<Void, Never>] = []

  /// Events come in bursts; what they say is read this much later, once.
  private static let eventWindow = Duration.milliseconds(20)
  /// Everything is read again this often, in case an event was lost.
  private static let resyncInterval = Duration.seconds(900)
  private static let resyncTolerance = Duration.seconds(120)

  /// Times that one step may be planned in a row before it counts as failing.
  private static let repeatLimit = 5

  private struct InFlight {
    let appId: Int?
    let step: Step
    let task: Task<Void, Never>
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
  }

  // MARK: Starting and triggering

  /// Begins: listens to the engine and enforces the stored target, if there ever was one.
  public func start() {
    reloadTarget()
    tasks.append(Task { await self.run() })
    tasks.append(Task { await self.listen() })
    resyncTimer = EventLoop.shared.schedule(
      after: Self.resyncInterval, tolerance: Self.resyncTolerance
    ) { [unowned self] in
      current.invalidate()
      wake.set()
      resyncTimer?.restart(after: Self.resyncInterval)
    }
  }

  /// Looks again at target and current state.
  ///
  /// - Parameters:
  ///   - force: take update locks even from those who hold them, until the target is reached.
  ///   - cancel: give up downloads that the target does not want any more, and try again at once
  ///     what failed before.
  public func trigger(force: Bool = false, cancel: Bool = false) {
    isForced = isForced || force
    isSettled = false
    if cancel || force {
      appDelays = [:]
      deviceDelay.succeed()
    }
    reloadTarget()
    if cancel {
      let wanted = Set(targetApps.flatMap { $0.services.map(\.imageName) } + target.imageNames)
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
      isTargetSet = try store.targets.isSet()
      storedTarget =
        isTargetSet ? try store.targets.targetApps(source: host.targetSource, logger: logger) : []
      commits = try store.commits.all()
    } catch {
      logger.error("Cannot read the target state: \(error)")
    }
    target.load(storedTarget)
    changed()
  }

  private func changed() {
    revision += 1
    onChange()
  }

  /// True while there is something to do, waits and delays included.
  public var isApplying: Bool { isTargetSet && !isSettled }

  /// Nothing to do, a download under way, or some sign of life within twice the poll interval:
  /// a look, a step, a try (http-api 7). Telling a hang from a long wait is what it is for.
  public var isAlive: Bool {
    guard isApplying, images.downloading.isEmpty, let host else { return true }
    return MonotonicTime.read() - lastProgress < host.pollInterval * 2
  }

  // MARK: The loop

  private func run() async {
    wake.set()
    while !Task.isCancelled {
      await wake.wait()
      lastProgress = .read()
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
    }
  }

  private func noteEngineProblem(_ error: EngineError) {
    let delay = engineDelay.fail(at: .read())
    if engineProblem != error.message {
      logger.error("The engine cannot be used: \(error.message)")
      engineProblem = error.message
      changed()
    }
    wakeAfter(delay)
  }

  private func look() async throws(EngineError) {
    guard let host else { return }
    let revisionBefore = current.revision
    // What is planned on must be one picture: whatever changes while something is read, or while
    // an image is looked at, is read again before the plan is made.
    repeat {
      try await current.refresh()
      if !hasRepairedImages {
        hasRepairedImages = true
        await images.repair()
      }
      try await target.build(
        context: host.mappingContext(supervisorGateway: current.supervisorGateway),
        inventory: images.inventory, apiKey: host.supervisorAPIKey)
    } while current.isStale
    targetApps = target.apps

    let now = MonotonicTime.read()
    plan = Planner.plan(input(at: now, host: host))
    var started = 0
    for step in plan.steps where begin(step) { started += 1 }
    settle(started: started)
    scheduleRetry(after: now)
    if started > 0 || current.revision != revisionBefore { changed() }
  }

  private func input(at now: MonotonicTime, host: any StateEngineHost) -> PlannerInput {
    var input = PlannerInput()
    input.current = currentApps
    // Before a target was ever received, what runs is left alone.
    input.target = isTargetSet ? targetApps : input.current
    input.images = images.inventory
    input.downloading = images.downloading
    input.imageBackOff = images.backOff.waiting(at: now)
    input.ignoredCleanUps = images.ignoredCleanUps(at: now)
    input.locks = locks.held
    input.leftoverLocks = locks.leftovers
    input.commits = commits
    input.handovers = Set(executor.handovers.keys)
    input.force = isForced || host.isLockOverridden
    input.keepImages = host.isLocalMode
    input.keepVolumes = host.isLocalMode
    input.reboot = host.rebootState
    // A supervisor network that cannot be made costs the API's users, not everyone.
    input.supervisorNetwork = deviceDelay.isWaiting(at: now) ? .ready : current.supervisorNetwork
    input.isExtraFirmwareReady =
      deviceDelay.isWaiting(at: now) || current.hasExtraFirmwareVolume && host.isExtraFirmwareNamed
    input.pausedApps = Set(appDelays.filter { $0.value.isWaiting(at: now) }.keys)
    return input
  }

  /// The device's apps as the engine shows them.
  public var currentApps: [App] {
    var services = Array(current.services.values)
    for position in services.indices {
      let service = services[position]
      if let row = images.rows.first(where: {
        $0.serviceName == service.name && $0.commit == service.commit && $0.appId == service.appId
      }) {
        services[position].imageName = row.name
      }
    }
    services.sort {
      ($0.appId, $0.name, $0.container?.id ?? "") < ($1.appId, $1.name, $1.container?.id ?? "")
    }
    return App.groupingCurrent(
      services: services, networks: Array(current.networks.values),
      volumes: Array(current.volumes.values), commits: commits)
  }

  // MARK: Steps

  /// Starts the step as a task of its own.
  ///
  /// - Returns: false when a step of the same subject is under way, or when the step ends an
  ///   app's work while some of it is still under way.
  private func begin(_ planned: PlannedStep) -> Bool {
    let subject = planned.subject
    guard inFlight[subject] == nil else { return false }
    if planned.step.endsWork, inFlight.values.contains(where: { $0.appId == planned.appId }) { return false }
    guard isProgress(planned, subject) else { return false }
    decisions.note(planned, at: .read())
    let task = Task {
      do throws(StepError) {
        try await executor.execute(planned)
        completed(planned)
      } catch {
        failed(planned, error)
      }
      inFlight[subject] = nil
      wake.set()
    }
    inFlight[subject] = InFlight(appId: planned.appId, step: planned.step, task: task)
    return true
  }

  /// A step that is planned again and again although it was done each time does not bring the
  /// device forward; from then on its app waits between two tries, as after a failure.
  private func isProgress(_ planned: PlannedStep, _ subject: String) -> Bool {
    guard let last = repeats[subject], last.planned == planned, last.count >= Self.repeatLimit else {
      return true
    }
    repeats[subject] = (planned, Self.repeatLimit - 1)
    failed(planned, .failed("done \(Self.repeatLimit) times and still needed (\(planned.reason))"))
    return false
  }

  private func completed(_ planned: PlannedStep) {
    // A pull counts its failures itself.
    if case .fetch = planned.step {
    } else {
      let subject = planned.subject
      let count = repeats[subject].map { $0.planned == planned ? $0.count + 1 : 1 } ?? 1
      repeats[subject] = (planned, count)
    }
    switch planned.step {
    case .updateCommit(let appId, let commit): commits[appId] = commit
    case .ensureSupervisorNetwork, .ensureExtraFirmwareVolume: deviceDelay.succeed()
    default: break
    }
    changed()
  }

  private func failed(_ planned: PlannedStep, _ error: StepError) {
    if case .cancelled = error { return }
    isUpdateFailed = true
    let delay: Duration
    if let appId = planned.appId {
      var retry = appDelays[appId] ?? RetryDelay(limit: host?.pollInterval ?? .seconds(900))
      delay = retry.fail(at: .read())
      appDelays[appId] = retry
    } else {
      delay = deviceDelay.fail(at: .read())
    }
    if case .lock(let conflict) = error {
      let text =
        "Updates are locked, retrying in \(delay.humanText). Reason: \(conflict)"
      host?.report(.updateLocked, text: text, isError: false)
    } else {
      logger.error(
        "Failed to apply state transition steps. \(error) Steps:[\"\(planned.step.name)\"]; next try in \(delay.humanText)"
      )
    }
    changed()
  }

  /// Reached: nothing planned, nothing waited for, nothing under way.
  private func settle(started: Int) {
    let isDone = plan.isSettled && inFlight.isEmpty && started == 0
    for (appId, progress) in plan.apps where progress.isSettled { appDelays[appId] = nil }
    if isDone { repeats = [:] }
    guard isDone != isSettled else { return }
    isSettled = isDone
    if isDone {
      isForced = false
      isUpdateFailed = false
      logger.info("The target state is reached")
    }
    changed()
  }

  private func scheduleRetry(after now: MonotonicTime) {
    let times =
      appDelays.values.compactMap(\.retryAt)
      + [deviceDelay.retryAt, images.backOff.nextRetry(after: now)]
      .compactMap(\.self)
    guard let next = times.filter({ $0 > now }).min() else { return }
    wakeAfter(next - now)
  }

  private func wakeAfter(_ delay: Duration) {
    wakeTimer?.cancel()
    wakeTimer = EventLoop.shared.schedule(after: delay, tolerance: delay / 10) { [unowned self] in wake.set()
    }
  }

  // MARK: Events

  private func listen() async {
    let events = engine.events(filters: ["type": ["container", "image", "network", "volume"]])
    while let item = await events.next() {
      switch item {
      case .connected, .gap:
        current.invalidate()
        wake.set()
      case .disconnected:
        current.invalidate()
        wake.set()
      case .event(let event):
        if current.note(event) { wakeForEvent() }
        noteExit(event)
      }
    }
  }

  private func wakeForEvent() {
    guard eventTimer?.isScheduled != true else { return }
    eventTimer = EventLoop.shared.schedule(after: Self.eventWindow) { [unowned self] in wake.set() }
  }

  /// Tells the user of services that ended by themselves, and of their restarts (7.5).
  private func noteExit(_ event: EngineEvent) {
    guard event.type == "container", let service = current.services[event.id],
      let container = service.container
    else { return }
    let object = "\(service.name) \(service.config.image)"
    switch event.action {
    case "die" where container.status != .stopping:
      diedContainers.insert(event.id)
      host?.report(
        .serviceExit, text: SystemEvent.serviceExit.text(object: object, cause: nil), isError: false)
    case "start" where diedContainers.remove(event.id) != nil && container.status != .starting:
      host?.report(
        .serviceRestart, text: SystemEvent.serviceRestart.text(object: object, cause: nil), isError: false)
    case "destroy": diedContainers.remove(event.id)
    default: break
    }
  }
  private var diedContainers: Set<String> = []
}

/// What the state engine needs of the agent around it.
public protocol StateEngineHost: StepHost {
  /// `local`, or the API endpoint (target-state 1.6).
  var targetSource: String { get }
  var isLocalMode: Bool { get }
  /// Longest delay between tries.
  var pollInterval: Duration { get }
  var rebootState: RebootState { get }
  var deviceUuid: String { get }
  /// A target was stored; `config` is as it was sent. Settings among it take effect now.
  func targetStored(config: [String: String])
  /// config.json names the volume `extra-firmware`.
  var isExtraFirmwareNamed: Bool { get }
  /// Everything but the services' API keys.
  func mappingContext(supervisorGateway: String?) -> MappingContext
  /// The key with which a service calls the API; nil when none can be made now.
  func supervisorAPIKey(appId: Int, service: String) -> String?
}

nonisolated extension PlannedStep {
  /// What the step changes; two steps of one subject never run together.
  var subject: String {
    switch step {
    case .ensureSupervisorNetwork, .ensureExtraFirmwareVolume, .cleanUpImages, .reboot, .requireReboot:
      step.name
    case .fetch(let row), .saveImage(let row, _), .removeImage(let row, _): "image \(row.name)"
    case .createNetwork(let network), .removeNetwork(let network):
      "network \(network.appId) \(network.name)"
    case .createVolume(let volume), .removeVolume(let volume): "volume \(volume.appId) \(volume.name)"
    case .takeLock(let appId, _, _), .releaseLock(let appId): "lock \(appId)"
    case .updateCommit(let appId, _): "commit \(appId)"
    case .start(let target, _): "service \(target.appId) \(target.name)"
    case .kill(let service), .stop(let service), .remove(let service):
      "service \(service.appId) \(service.name)"
    case .updateMetadata(let service, _), .handover(let service, _):
      "service \(service.appId) \(service.name)"
    }
  }
}

nonisolated extension Step {
  /// Steps that may only be done when nothing else of the app is under way.
  var endsWork: Bool {
    switch self {
    case .releaseLock, .updateCommit: true
    default: false
    }
  }
}

nonisolated extension Duration {
  /// `1 second`, `90 seconds`, `15 minutes`: for people.
  var humanText: String {
    let seconds = max(1, Int(clamping: components.seconds))
    if seconds < 120 { return seconds == 1 ? "1 second" : "\(seconds) seconds" }
    return "\(seconds / 60) minutes"
  }
}
