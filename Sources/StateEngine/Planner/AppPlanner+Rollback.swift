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

  private func goBack(from current: Service?, to previous: Service, _ reason: Reason) -> Outcome {
    current.map { .lockedStep(.kill($0), reason) } ?? .lockedStep(.restore(previous), reason)
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
