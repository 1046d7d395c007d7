import Engine
import EventLoop
import Model

/// Which service of an app a call of the API means (http-api 6.1).
public nonisolated struct ServiceSelection: Sendable, Hashable {
  public var name: String?
  public var imageId: Int?

  public init(name: String? = nil, imageId: Int? = nil) {
    self.name = name
    self.imageId = imageId
  }

  func includes(_ service: Service) -> Bool {
    imageId == service.imageId || name == service.name
  }
}

// What the API asks the state engine to do with one service (state-engine 1.6, http-api 6.1). The
// planner leaves the app alone meanwhile.
extension StateEngine {
  /// Starts the service's container; returns when it has started. One that runs already is fine.
  /// Needs no lock.
  ///
  /// - Throws: `appNotFound`, `serviceNotFound`, `serviceNotInTarget`, `engine`.
  public func startService(appId: Int, _ selection: ServiceSelection) async throws(ActionError) {
    try await enterAction(appId, timeout: nil)
    defer { leaveService(appId) }
    await hold(appId)
    let (service, target) = try await find(appId, selection)
    var wanted = target
    // A service that waits for a reboot is made, and started after it.
    if target.requiresReboot, service.createdAt >= (host?.rebootState ?? RebootState()).bootTime {
      wanted.config.isRunning = false
    }
    try await perform(.start(target: wanted, container: service.container), service, "start-service")
  }

  /// Stops the service's container and keeps it; returns when it has stopped. It stays stopped
  /// until it is started by the API or its configuration changes.
  ///
  /// - Parameter force: take update locks even from those who hold them.
  /// - Throws: as `startService`, and `locks`: `busy` when the app is being updated for more
  ///   than ten seconds.
  public func stopService(
    appId: Int, _ selection: ServiceSelection, force: Bool
  ) async throws(ActionError) {
    try await locked(appId, selection, force: force) { (service, _) throws(ActionError) in
      if let id = service.container?.id {
        trials.accept(id)
        // From here on it is the user who wants it stopped.
        forgetOwnStops([id])
      }
      try await perform(.stop(service), service, "stop-service")
    }
  }

  /// Removes the service's container and makes it again from its target; returns when it has
  /// started.
  ///
  /// While the app's target is another release than the one that runs, the service is made
  /// again as it is: images of the new release may be missing, and its other services are not
  /// there.
  ///
  /// - Parameter force: as for `stopService`.
  /// - Throws: as `stopService`.
  public func restartService(
    appId: Int, _ selection: ServiceSelection, force: Bool
  ) async throws(ActionError) {
    try await locked(appId, selection, force: force) { (service, target) throws(ActionError) in
      noteOwnStops([PlannedStep(.kill(service), reason: .rule(.requested("restart-service")))])
      // Its error is in the log; what matters is whether the service runs in the end.
      do throws(ActionError) { try await perform(.kill(service), service, "restart-service") } catch {}
      var wanted = target
      if target.commit != service.commit || !images.inventory.isPresent(for: target) {
        let ids = currentApps.first { $0.appId == appId }?.services ?? []
        wanted = service.recreation(
          serviceNames: Dictionary(ids.map { ($0.container?.id ?? "", $0.name) }) { first, _ in first })
        wanted.config.isRunning = target.config.isRunning
      }
      try await perform(.start(target: wanted, container: nil), service, "restart-service")
    }
  }

  // MARK: -

  private func locked(
    _ appId: Int, _ selection: ServiceSelection, force: Bool,
    _ body: (_ current: Service, _ target: Service) async throws(ActionError) -> Void
  ) async throws(ActionError) {
    _ = try await find(appId, selection)
    try await enterAction(appId, timeout: UpdateLocks.actionTimeout)
    defer { leaveService(appId) }
    do {
      try await locks.withLocks([appId], force: force || host?.isLockOverridden == true) {
        await hold(appId)
        let (service, target) = try await find(appId, selection)
        try await body(service, target)
      }
    } catch let error as ActionError {
      throw error
    } catch let error as UpdateLockError {
      noteLock(error)
      throw .locks(error)
    } catch {
      throw .failed("\(error)")
    }
  }

  /// The loop goes on with the app. Nothing is triggered: what the action left is left.
  private func leaveService(_ appId: Int) {
    heldApps.remove(appId)
    if let queue = actionQueues[appId] {
      queue.leave()
      if queue.isIdle { actionQueues[appId] = nil }
    }
    wake.set()
  }

  /// The container that is meant, and its service's target.
  private func find(
    _ appId: Int, _ selection: ServiceSelection
  ) async throws(ActionError) -> (current: Service, target: Service) {
    try await awaitPicture()
    guard let app = currentApps.first(where: { $0.appId == appId }), !app.services.isEmpty else {
      throw .appNotFound
    }
    let services = newestServices(of: app)
    guard let service = services.count == 1 ? services.first : services.first(where: selection.includes)
    else { throw .serviceNotFound }
    let own = ServiceSelection(name: service.name, imageId: service.imageId)
    guard
      let target = targetApps.first(where: { $0.appId == appId })?.services.first(where: own.includes)
    else { throw .serviceNotInTarget }
    return (service, target)
  }

  private func perform(_ step: Step, _ service: Service, _ call: String) async throws(ActionError) {
    let planned = PlannedStep(
      step, appId: service.appId, service: service.name, reason: .rule(.requested(call)))
    decisions.note(planned, at: .read())
    do throws(StepError) { try await executor.execute(planned) } catch { throw ActionError(error) }
    if case .start(_, let container?) = step { forgetOwnStops([container.id]) }
    changed()
  }
}
