import Engine
import EventLoop
import Model

// What the API asks the state engine to do with a whole app (state-engine 1.6, http-api 6.2 to 6.4).
//
// An action is planned work like any other: it puts an intermediate target, a value of its own,
// in the place of the app's target, and the loop brings the app there by the usual steps, locks
// and reasons. Other apps go on meanwhile. Actions on one app run one after another, in the order
// in which they were asked for; none ever sees another's intermediate target.
extension StateEngine {
  /// Removes all containers of an app and makes them again, as they were; volumes, networks and
  /// images stay. Returns when the services have been started anew.
  ///
  /// - Parameter force: take update locks even from those who hold them.
  /// - Throws: `locks`, after which nothing was touched; `appNotInCurrentState`; `failed` with the
  ///   step that failed. The loop then brings the app to its target again.
  public func restartApp(_ appId: Int, force: Bool) async throws(ActionError) {
    try await enterAction(appId, timeout: nil)
    defer { leaveAction(appId) }
    let app = try await recreatable(appId)
    var emptied = app.current
    emptied.services = []
    try await reach(appId, emptied, force: force)
    try await reach(appId, app.asItWas, force: force)
  }

  /// Removes an app's containers, networks and volumes with their data and makes them again,
  /// empty. The engine's volume `extra-firmware` is emptied too. Images stay.
  ///
  /// - Parameter force: as for `restartApp`.
  /// - Throws: as `restartApp`.
  public func purgeApp(_ appId: Int, force: Bool) async throws(ActionError) {
    let text = SystemEvent.purge.humanName
    host?.report(.purge, text: "\(text) for app \(appId)", isError: false)
    do throws(ActionError) {
      try await purge(appId, force: force)
    } catch {
      let text = SystemEvent.purgeError.humanName
      host?.report(.purgeError, text: "\(text): \(error)", isError: true)
      throw error
    }
    host?.report(.purged, text: SystemEvent.purged.humanName, isError: false)
  }

  private func purge(_ appId: Int, force: Bool) async throws(ActionError) {
    try await enterAction(appId, timeout: nil)
    defer { leaveAction(appId) }
    let app = try await recreatable(appId)
    try await reach(appId, nil, force: force)
    do throws(StepError) { try await executor.emptyExtraFirmwareVolume() } catch {
      throw failure(error, step: "purge")
    }
    try await reach(appId, app.asItWas, force: false)
  }

  // MARK: Order

  /// Waits until no other action works on the app, and keeps it for this one.
  func enterAction(_ appId: Int, timeout: Duration?) async throws(ActionError) {
    let queue = actionQueues[appId] ?? FairMutex()
    actionQueues[appId] = queue
    switch await queue.enter(timeout: timeout) {
    case .entered: return
    case .timedOut: throw .locks(.busy(appId: appId))
    case .cancelled:
      if queue.isIdle { actionQueues[appId] = nil }
      throw .cancelled
    }
  }

  /// Gives the app back to its target.
  func leaveAction(_ appId: Int) {
    intermediate[appId] = nil
    actionFailures[appId] = nil
    heldApps.remove(appId)
    appDelays[appId] = nil
    if let queue = actionQueues[appId] {
      queue.leave()
      if queue.isIdle { actionQueues[appId] = nil }
    }
    trigger()
  }

  /// Keeps the planner from the app and waits until its steps have ended. Downloads go on, and a
  /// request for locks waits by itself.
  func hold(_ appId: Int) async {
    heldApps.insert(appId)
    while hasSteps(appId, except: { $0.isFetch || $0.isLockRequest }) { await lookEnds() }
  }

  func hasSteps(_ appId: Int?, except: (Step) -> Bool) -> Bool {
    inFlight.values.contains { $0.appId == appId && !except($0.step) }
  }

  /// No step that needs the app's locks is under way or about to be.
  func isAtRest(_ appId: Int) -> Bool {
    let isHarmless = { (step: Step) in step.isImageWork || step.isLockRequest || step.endsWork }
    guard intermediate[appId] == nil, !hasSteps(appId, except: isHarmless) else { return false }
    // Without a look at the engine no step is begun, whatever the last plan says.
    return engineProblem != nil || isHeld
      || !plan.steps.contains { $0.appId == appId && !isHarmless($0.step) }
  }

  /// Waits for a complete picture of the device.
  ///
  /// - Throws: when the engine cannot be asked.
  func awaitPicture() async throws(ActionError) {
    while !current.isComplete || current.hasOwnChanges {
      // Nothing is looked at any more.
      if isShuttingDown { throw .failed("The device is going down") }
      wake.set()
      await lookEnds()
      if let engineProblem { throw .failed(engineProblem) }
      if Task.isCancelled { throw .cancelled }
    }
  }

  // MARK: Phases

  private func recreatable(_ appId: Int) async throws(ActionError) -> (current: App, asItWas: App) {
    await hold(appId)
    try await awaitPicture()
    guard let app = currentApps.first(where: { $0.appId == appId }) else {
      throw .appNotInCurrentState(appId)
    }
    return (app, asItWas(app))
  }

  /// Brings the app to an intermediate target, without a second try of what fails.
  private func reach(_ appId: Int, _ app: App?, force: Bool) async throws(ActionError) {
    intermediate[appId] = IntermediateTarget(app: app, force: force)
    heldApps.remove(appId)
    changed()
    let plansBefore = counters.plans
    wake.set()
    while true {
      await lookEnds()
      guard !hasSteps(appId, except: { _ in false }) else { continue }
      if isShuttingDown { throw failure(.failed("the device is going down"), step: "noop") }
      if isHeld { throw failure(.failed("the target is held back"), step: "noop") }
      if let problem = engineProblem { throw failure(.failed(problem), step: "noop") }
      if let failed = actionFailures[appId] { throw failure(failed.error, step: failed.step) }
      if Task.isCancelled { throw .cancelled }
      // An older plan knows nothing of the intermediate target.
      guard counters.plans != plansBefore else { continue }
      guard !plan.steps.contains(where: { $0.appId == appId }) else { continue }
      guard let progress = plan.apps[appId], !progress.isSettled else { return }
      let isImpatient = isImpatient(appId, at: .read())
      if progress.waiting.allSatisfy({
        $0.cause.endsOnlyByChangeFromOutside || isImpatient && $0.cause.isForDependencies
      }) {
        return
      }
      for case .imageBackOff(let image) in progress.waiting.map(\.cause) {
        throw failure(.failed("cannot download \(image)"), step: "fetch")
      }
    }
  }

  private func failure(_ error: StepError, step: String) -> ActionError {
    switch error {
    case .lock(let error): .locks(error)
    case .cancelled: .cancelled
    default: .failed("Failed to apply state transition steps. \(error) Steps:[\"\(step)\"]")
    }
  }

  /// The app's target when that is what runs now, else what the engine shows of it: a network
  /// shared with a container is again one shared with a service.
  private func asItWas(_ app: App) -> App {
    let services = newestServices(of: app)
    if var target = targetApps.first(where: { $0.appId == app.appId }), target.problem == nil,
      services.allSatisfy({ service in
        target.services.contains { $0.name == service.name && $0.commit == service.commit }
      }),
      target.services.allSatisfy({ images.inventory.isPresent(for: $0) })
    {
      target.isRejected = false
      return target
    }
    var app = app
    let names = Dictionary(
      app.services.compactMap { service in service.container.map { ($0.id, service.name) } }
    ) { first, _ in first }
    app.services = services.map { $0.recreation(serviceNames: names) }
    var seen: Set<String> = []
    app.networks = app.networks.filter { seen.insert($0.name).inserted }
    return app
  }

  /// One container for each service: the newest.
  func newestServices(of app: App) -> [Service] {
    var newest: [String: Service] = [:]
    for service in app.services where newest[service.name].map({ $0.isOlder(than: service) }) ?? true {
      newest[service.name] = service
    }
    return newest.values.sorted { $0.name < $1.name }
  }
}

nonisolated extension Service {
  /// The target that makes this container again.
  ///
  /// - Parameter serviceNames: by container id, of the same app.
  func recreation(serviceNames: [String: String]) -> Service {
    var target = beforeSetAside
    target.container = nil
    target.config.isRunning = container?.status != .installed
    let prefix = "container:"
    if config.networkMode.hasPrefix(prefix),
      let name = serviceNames[String(config.networkMode.dropFirst(prefix.count))]
    {
      target.config.networkMode = "service:\(name)"
      target.dependencies = [Dependency(name)]
    }
    return target
  }
}

nonisolated extension Step {
  var isFetch: Bool { if case .fetch = self { true } else { false } }
  /// Touches no container and thus needs no lock (state-engine 5.5).
  var isImageWork: Bool {
    switch self {
    case .fetch, .saveImage, .removeImage: true
    default: false
    }
  }
  var isLockRequest: Bool { if case .takeLock = self { true } else { false } }
}
