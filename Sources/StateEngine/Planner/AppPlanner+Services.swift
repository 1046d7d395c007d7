import Database
import Model

/// What becomes of each service (state-engine 3.4 to 3.6 and 4).
nonisolated extension AppPlanner {
  /// The container that counts when a service has several: the newest; one that was told to make room
  /// counts as older, whatever the clock says. When the newest is not at the target, it yields to one
  /// that was about to hand over and is; and if it was never started, to one that runs, so that an
  /// interrupted hand-over to a release that is no longer wanted does not cost the running container.
  func survivor(of containers: [Service]) -> Service? {
    if containers.count == 1, !containers[0].isHandingOver { return containers[0] }
    let byAge = containers.sorted { a, b in a.isOlder(than: b) }
    guard let newest = byAge.last, let target = targetServices.first(where: { $0.name == newest.name }),
      !isAtTarget(newest, target)
    else { return byAge.last }
    let takenBack = byAge.lazy.map { takingBack($0, target) }.last {
      $0.isHandingOver && $0.config.isRunning && isAtTarget($0, target)
    }
    if let takenBack { return takenBack }
    guard newest.container?.status == .installed else { return newest }
    return byAge.last { $0.config.isRunning } ?? newest
  }

  private func isAtTarget(_ current: Service, _ target: Service) -> Bool {
    current.commit == target.commit && current.differences(to: target, containerIds: [:]).isEmpty
  }

  /// A container that was about to hand over, with the restart policy that its renaming gives back.
  private func takingBack(_ current: Service, _ target: Service) -> Service {
    guard current.isHandingOver else { return current }
    var service = current
    service.config.restart = target.config.restart
    return service
  }

  /// Container ids by service name, to compare `network_mode: service:…`.
  var containerIds: [String: String] { survivors.compactMapValues { $0.container?.id } }

  // MARK: - Removal

  func decideRemoval(of service: Service) -> Outcome {
    if let wait = transition(of: service) { return wait }
    if intermediate == nil, service.container?.setAsidePolicy != nil { return decideDropped(service) }
    if failedUpdate != nil { return .wait(.failedUpdate) }
    let isEarly =
      switch service.updateStrategy {
      case .killThenDownload, .deleteThenDownload: true
      case .downloadThenKill, .handOver: false
      }
    if !isEarly, let wait = missingImagesWait { return wait }
    let hasWayBack = isTrialOpen && !isEarly && canGoBack(service)
    return .lockedStep(hasWayBack ? .setAside(service) : .kill(service), .rule(.serviceNotInTarget))
  }

  func decideAppRemoval(of service: Service) -> Outcome {
    if service.container?.status == .dead { return .step(.remove(service), .rule(.containerDead)) }
    if let wait = transition(of: service) { return wait }
    return .lockedStep(.kill(service), .rule(.appNotInTarget))
  }

  /// An older container of a service that has a newer one.
  func decideDuplicate(_ service: Service, target: Service) -> Outcome {
    if let wait = transition(of: service) { return wait }
    guard let container = service.container, let newest = survivors[service.name]?.container else {
      return .nothing
    }
    let isWanted =
      survivors[service.name].map {
        $0.differences(to: target, containerIds: containerIds).isEmpty && reasonOfUse($0) == nil
      } ?? false
    if input.handovers.contains(container.id), isWanted { return .wait(.handover) }
    if service.isHandingOver {
      if heldForReboot.contains(service.name) { return .wait(.reboot) }
      // The old one runs on until the new one has started, unless that one will not be started, or
      // cannot be because of what the old one holds or because of a network that is made anew.
      if target.isRunning, service.config.isRunning,
        newest.status == .installed || newest.status == .starting, isWanted,
        !isPortConflict(newest.startError)
      {
        return .wait(.starting)
      }
      return .lockedStep(.kill(service), .rule(isWanted ? .handedOver : .handoverUnwanted))
    }
    return .lockedStep(.kill(service), .rule(.duplicateContainer(newest: newest.id)))
  }

  // MARK: - Target services

  mutating func decide(_ target: Service, hasDuplicates: Bool) -> Outcome {
    guard let current = survivors[target.name] else {
      let hasDead = currentServices.contains { $0.name == target.name }
      return hasDead ? .wait(.removal) : install(target)
    }
    if let wait = transition(of: current) { return wait }
    if let reason = failedUpdate, isAdded(target), current.commit == target.commit {
      return .lockedStep(.kill(current), .rule(.updateFailed(reason)))
    }
    if downloads.contains(target.imageName), !input.images.isPresent(for: target) {
      return .wait(.download(image: target.imageName))
    }
    let differences = current.differences(to: target, containerIds: containerIds)
    let use = reasonOfUse(current)
    if differences.isEmpty, use == nil {
      let outcome = adjust(current, target)
      // While an older container is there, the newest is started but not otherwise touched.
      if hasDuplicates, case .lockedStep = outcome { return .wait(.removal) }
      // Nor is it started again as long as the older one holds what it needs.
      if hasDuplicates, case .step(.start, _) = outcome, isPortConflict(current.container?.startError ?? "") {
        return .wait(.removal)
      }
      return outcome
    }
    if hasDuplicates { return .wait(.removal) }
    let reason = differences.isEmpty ? use ?? .differences([]) : .differences(differences)
    return replace(current, by: target, usesChanging: use != nil, reason)
  }

  /// No container yet: fetch, then create and start.
  mutating func install(_ target: Service) -> Outcome {
    if failedUpdate != nil, isAdded(target) { return .wait(.failedUpdate) }
    if !input.images.isPresent(for: target) { return fetch(target) }
    if let wait = startWait(target) { return wait }
    return .lockedStep(.start(target: target, container: nil), .rule(.containerMissing))
  }

  /// The configuration is as it shall be: name and running state may not be.
  mutating func adjust(_ current: Service, _ target: Service) -> Outcome {
    if current.isHandingOver {
      return .lockedStep(.updateMetadata(current: current, target: target), .rule(.handoverTakenBack))
    }
    if current.commit != target.commit {
      if target.updateStrategy == .downloadThenKill, let wait = missingImagesWait { return wait }
      if failedUpdate != nil || isTrialOpen, setAside[target.name] == nil {
        // It keeps its name with the release that it would go back to; whoever depends on it need not wait.
        settledServices.insert(target.name)
        return .wait(failedUpdate != nil ? .failedUpdate : .proof)
      }
      let difference = Difference(
        field: "commit", current: current.commit ?? "none", target: target.commit ?? "none")
      return .lockedStep(.updateMetadata(current: current, target: target), .differences([difference]))
    }
    if target.isRunning, let reason = reasonToStart(current) { return start(current, target, reason) }
    if !target.isRunning, current.config.isRunning, current.container?.status != .engine("exited") {
      return .lockedStep(.stop(current), .rule(.notToRun))
    }
    return .nothing
  }

  /// Only a container that was never started, whose start failed for want of an address, or that a
  /// step of the agent stopped is started; any other exited one is the engine's to restart, or was
  /// stopped on purpose.
  private func reasonToStart(_ current: Service) -> Reason? {
    guard !current.config.isRunning, let container = current.container else { return nil }
    if container.status == .installed { return .rule(.containerNeverStarted) }
    if container.status == .engine("exited"), isAddressFailure(container.startError) {
      return .rule(.startFailedOnAddress(container.startError))
    }
    return isStoppedByAgent(current) ? .rule(.stoppedByAgent) : nil
  }

  func isStoppedByAgent(_ service: Service) -> Bool {
    guard let container = service.container, container.status == .engine("exited") else { return false }
    return input.ownStops.contains(container.id)
  }

  /// As the engine puts it when another container has the port or the static address, or a program of
  /// the host has the port.
  private func isPortConflict(_ error: String) -> Bool {
    let error = error.lowercased()
    return error.contains("port is already allocated") || error.contains("address already in use")
  }

  private func isAddressFailure(_ error: String) -> Bool {
    let error = error.lowercased()
    return error.contains("userland proxy") && error.hasSuffix("cannot assign requested address")
  }

  private mutating func start(_ current: Service, _ target: Service, _ reason: Reason) -> Outcome {
    if target.requiresReboot, current.createdAt >= input.reboot.bootTime {
      guard input.reboot.isScheduled else {
        return .step(.requireReboot(appId: appId, service: target.name), .rule(.rebootLabel))
      }
      heldForReboot.insert(target.name)
      return .wait(.reboot)
    }
    if let wait = startWait(target) { return wait }
    return .step(.start(target: target, container: current.container), reason)
  }

  // MARK: - Update strategies

  private mutating func replace(
    _ current: Service, by target: Service, usesChanging: Bool, _ reason: Reason
  ) -> Outcome {
    if failedUpdate != nil, target.wantsProof { return .wait(.failedUpdate) }
    switch target.updateStrategy {
    case .killThenDownload, .deleteThenDownload:
      return .lockedStep(.kill(current), reason)
    case .downloadThenKill:
      if !input.images.isPresent(for: target) { return fetch(target) }
      if let wait = missingImagesWait { return wait }
      let hasWayBack =
        intermediate == nil && target.wantsProof && target.isRunning && canGoBack(current)
      return .lockedStep(hasWayBack ? .setAside(current) : .kill(current), reason)
    case .handOver:
      if !input.images.isPresent(for: target) { return fetch(target) }
      // Nothing runs, or it is in the way: there is nothing to hand over.
      if usesChanging || !current.config.isRunning || !target.isRunning {
        return missingImagesWait ?? .lockedStep(.kill(current), reason)
      }
      if let wait = startWait(target) { return wait }
      return .lockedStep(.handover(current: current, target: target), reason)
    }
  }

  mutating func fetch(_ target: Service) -> Outcome {
    let name = target.imageName
    // The engine has it already: it is saved, and counts from the next plan on.
    if ImageRules.saveable(for: target, in: input.images) != nil { return .wait(.download(image: name)) }
    if downloads.contains(name) { return .wait(.download(image: name)) }
    if let wait = removeOldImages(of: target) { return wait }
    if input.imageBackOff.contains(name) { return .wait(.imageBackOff(image: name)) }
    if downloads.isFull { return .wait(.downloadSlot(image: name)) }
    downloads.add(name)
    return .step(.fetch(StoredImage(for: target)), .rule(.imageMissing))
  }

  /// delete-then-download: when the old container is gone its image goes before the new one
  /// comes (state-engine 4.3).
  private mutating func removeOldImages(of target: Service) -> Outcome? {
    guard target.updateStrategy == .deleteThenDownload, !input.keepImages, intermediate == nil else {
      return nil
    }
    let allCurrent = input.current.flatMap(\.services)
    let allTargets = input.target.flatMap(\.services)
    let rows = ImageRules.unusedRows(in: input.images, current: allCurrent, target: allTargets).filter {
      row in
      row.appId == appId && row.serviceName == target.name
        && !input.downloading.contains { ImageName.isSame($0, row.name) }
    }
    guard !rows.isEmpty else { return nil }
    for (row, isNameShared) in ImageRules.removals(of: rows, in: input.images)
    where !input.imageBackOff.contains(row.name) {
      add(
        .removeImage(row, isNameShared: isNameShared), service: target.name, .rule(.oldImageBeforeNew))
    }
    return .wait(.oldImageRemoval)
  }

  // MARK: - Waits

  /// A container on its way to another state is left alone until it has arrived.
  func transition(of service: Service) -> Outcome? {
    switch service.container?.status {
    case .stopping, .engine("removing"): .wait(.stopping)
    case .starting, .installing: .wait(.starting)
    default: nil
    }
  }

  var missingImagesWait: Outcome? {
    missingImages.isEmpty ? nil : .wait(.images(services: missingImages))
  }

  /// What a start has to wait for: the app's images, networks, volumes and dependencies.
  private mutating func startWait(_ target: Service) -> Outcome? {
    if let wait = missingImagesWait { return wait }
    if let cause = pendingComponents(of: target) { return .wait(cause) }
    let names = Set(targetServices.map(\.name))
    let unmet = target.dependencies.filter { names.contains($0.service) && !isMet($0) }
    guard !unmet.isEmpty else { return nil }
    if unmet.allSatisfy({ heldForReboot.contains($0.service) }) { heldForReboot.insert(target.name) }
    guard unmet.contains(where: isOutOfReach) else { return .wait(.dependencies(unmet)) }
    outOfReach.insert(target.name)
    return .wait(.dependenciesOutOfReach(unmet))
  }

  private func isOutOfReach(_ dependency: Dependency) -> Bool {
    let name = dependency.service
    if heldForReboot.contains(name) || outOfReach.contains(name) { return true }
    return settledServices.contains(name) && !isWithinReach(dependency)
  }

  /// Whether the condition may yet be met by the container that is there.
  private func isWithinReach(_ dependency: Dependency) -> Bool {
    let container = survivors[dependency.service]?.container
    let isRunning = container?.status == .running
    switch dependency.condition {
    case .started: return true
    case .healthy: return isRunning && container?.health == .starting
    case .completed: return container?.status != .engine("exited")
    }
  }

  /// A dependency that need not be met is not waited for once its condition is out of reach: the
  /// container failed, ended, or has no health check.
  private func isMet(_ dependency: Dependency) -> Bool {
    guard settledServices.contains(dependency.service) else { return false }
    let container = survivors[dependency.service]?.container
    let isFulfilled =
      switch dependency.condition {
      case .started: true
      case .healthy: container?.status == .running && container?.health == .healthy
      case .completed: container?.status == .engine("exited") && container?.exitCode == 0
      }
    return isFulfilled || !dependency.isRequired && !isWithinReach(dependency)
  }
}

nonisolated extension Service {
  /// When the container was created; the beginning of time if the engine's text is unreadable.
  var createdAt: Timestamp { container.flatMap { Timestamp($0.createdAt) } ?? Timestamp(seconds: 0) }
  var isRunning: Bool { config.isRunning }
  /// It was told to make room, by a hand-over that may be over.
  var isHandingOver: Bool { container?.name.hasPrefix("old_\(name)_") ?? false }

  /// Whether the other container of the same service is its successor. The clock may have been set
  /// back between the two; the name of one that was told to make room does not lie.
  func isOlder(than other: Service) -> Bool {
    isHandingOver == other.isHandingOver ? createdAt < other.createdAt : isHandingOver
  }
}
