import Database
import Model

/// Updates that can be taken back (docs/rollback.md): the old container stays, stopped and under
/// another name, until the new ones of the app have proven themselves.
nonisolated extension AppPlanner {
  /// Why the app's target is not tried at the moment; nil when it is.
  var failedUpdate: String? { intermediate == nil ? input.failedUpdates[appId] : nil }

  /// Decides about a service that has a container set aside.
  mutating func decideTrial(_ target: Service, _ previous: Service) -> Outcome {
    let current = survivors[target.name]
    if let current, let wait = transition(of: current) { return wait }
    if let wait = transition(of: previous) { return wait }
    if previous.config.isRunning {
      // Brought back half way, or started by someone else.
      return current == nil
        ? .lockedStep(.restore(previous), .rule(.restoreUnfinished))
        : .lockedStep(.stop(previous), .rule(.replacementRuns))
    }
    if let use = reasonOfUse(previous) { return missingImagesWait ?? .lockedStep(.kill(previous), use) }
    if let reason = failedUpdate { return goBack(from: current, to: previous, .rule(.updateFailed(reason))) }
    if previous.commit == target.commit,
      previous.beforeSetAside.differences(to: target, containerIds: containerIds).isEmpty
    {
      return missingImagesWait ?? goBack(from: current, to: previous, .rule(.targetIsPrevious))
    }
    guard let current else { return install(target) }
    let differences = current.differences(to: target, containerIds: containerIds)
    let use = reasonOfUse(current)
    guard differences.isEmpty, use == nil else {
      if !input.images.isPresent(for: target) { return fetch(target) }
      return missingImagesWait ?? .lockedStep(.kill(current), use ?? .differences(differences))
    }
    let outcome = adjust(current, target)
    guard outcome == .nothing else { return outcome }
    // Whoever depends on it need not wait for the proof.
    settledServices.insert(target.name)
    guard target.wantsProof, target.isRunning, !isAppProven else {
      return .lockedStep(.kill(previous), .rule(.proven))
    }
    return .wait(.proof)
  }

  /// A service that the target has no more, kept for the case that the update fails.
  func decideDropped(_ previous: Service) -> Outcome {
    guard previous == setAside[previous.name] else { return .lockedStep(.kill(previous), .rule(.proven)) }
    if previous.config.isRunning { return .lockedStep(.restore(previous), .rule(.restoreUnfinished)) }
    if let use = reasonOfUse(previous) { return missingImagesWait ?? .lockedStep(.kill(previous), use) }
    if let reason = failedUpdate { return goBack(from: nil, to: previous, .rule(.updateFailed(reason))) }
    return isTrialOpen ? .wait(.proof) : .lockedStep(.kill(previous), .rule(.proven))
  }

  private func goBack(from current: Service?, to previous: Service, _ reason: Reason) -> Outcome {
    if let current { return .lockedStep(.kill(current), reason) }
    // What came with the release may hold what the old container needs, such as a port.
    let isInTheWay =
      failedUpdate != nil && targetServices.contains { isAdded($0) && survivors[$0.name] != nil }
    return isInTheWay ? .wait(.removal) : .lockedStep(.restore(previous), reason)
  }

  /// The service is there only since the release that is tried: the one before, which the app had
  /// reached, had no image for it.
  func isAdded(_ target: Service) -> Bool {
    guard target.updateStrategy != .deleteThenDownload, let before = input.commits[appId],
      before != target.commit
    else { return false }
    let rows = input.images.rows.filter { $0.appId == appId && $0.commit == before }
    return !rows.isEmpty && !rows.contains { $0.serviceName == target.name }
  }

  /// The container can be kept and started again.
  func canGoBack(_ current: Service) -> Bool {
    reasonOfUse(current) == nil && (current.config.isRunning || isStoppedByAgent(current))
  }

  /// The service has a container that is kept, or one that will be when its images are there.
  func hasTrial(_ target: Service) -> Bool {
    guard target.wantsProof, target.isRunning else { return false }
    if setAside[target.name] != nil { return true }
    guard let current = survivors[target.name], canGoBack(current) else { return false }
    return !current.differences(to: target, containerIds: containerIds).isEmpty
  }

  /// All services of the app that have a way back have proven themselves: they go forth, and
  /// would go back, together.
  private var isAppProven: Bool {
    targetServices.allSatisfy { target in
      guard setAside[target.name] != nil, target.wantsProof, target.isRunning else { return true }
      guard let id = survivors[target.name]?.container?.id else { return false }
      return input.proofs[id] == .proven
    }
  }
}
