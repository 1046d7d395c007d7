import Database
import Model

// One app, from what it is to what it shall be (state-engine 3.2 and 3.7).
//
// Each service gets an `Outcome`; outcomes that need the app's locks ask for them when they
// are not held, and one `takeLock` for all services of both sides answers all of them. The
// commit is stored and the locks are released only when no service, network or volume has
// anything left to do.

nonisolated struct AppPlanner {
  let input: PlannerInput
  let appId: Int
  let current: App?
  let target: App?
  let intermediate: IntermediateTarget?
  var downloads: Downloads

  private(set) var steps: [PlannedStep] = []
  private(set) var progress = AppProgress()

  /// Services that ask for the locks in this plan.
  private var lockSeekers: [String] = []
  /// Services that are at their target.
  var settledServices: Set<String> = []
  /// Services that, directly or through a dependency, are held back for a reboot.
  var heldForReboot: Set<String> = []
  /// Services that wait for a dependency that neither the agent nor the engine will meet.
  var outOfReach: Set<String> = []

  let currentServices: [Service]
  let targetServices: [Service]
  /// Of each service name the container that counts, see `survivor(of:)`.
  var survivors: [String: Service] = [:]
  /// Of each service name the container that is kept while its successor proves itself.
  var setAside: [String: Service] = [:]
  /// Some service of the app has a way back, or gets one by this plan.
  var isTrialOpen = false
  var networkChanges = ComponentChanges()
  var volumeChanges = ComponentChanges()
  /// Target services whose images are not present.
  let missingImages: [String]

  init(input: PlannerInput, appId: Int, current: App?, target: App?, downloads: Downloads) {
    self.input = input
    self.appId = appId
    self.current = current
    self.target = target
    intermediate = input.intermediate[appId]
    self.downloads = downloads
    let services = AppPlanner.withLegacyLabels(
      current: current?.plannedServices ?? [], target: target?.plannedServices ?? [])
    currentServices = services.current
    targetServices = services.target
    missingImages = services.target.filter { !input.images.isPresent(for: $0) }.map(\.name)
  }

  mutating func plan() {
    if input.pausedApps.contains(appId) {
      progress.waiting = [Waiting(.paused)]
      if input.restingApps.contains(appId) { planLockRelease() }
      return
    }
    guard let target else {
      planRemoval()
      return
    }
    guard !target.isRejected else {
      let cause = target.problem.map(Waiting.Cause.unmappable) ?? .rejected
      progress = AppProgress(waiting: [Waiting(cause)], isSettled: true)
      planLockRelease()
      return
    }
    let dependencies = Dependencies(targetServices)
    guard dependencies.blocked.isEmpty else {
      progress.waiting = [Waiting(.dependencyCycle(dependencies.blocked))]
      planLockRelease()
      return
    }
    planUpdate(dependencies.order)
  }

  // MARK: - Both sides, or only the target

  private mutating func planUpdate(_ order: [Service]) {
    for service in currentServices where service.container?.status == .dead {
      add(.remove(service), service: service.name, .rule(.containerDead))
    }
    compareComponents()
    let wanted = Set(targetServices.map(\.name))
    let alive = currentServices.filter { $0.container?.status != .dead }
    let living = Dictionary(grouping: alive.filter { $0.container?.setAsidePolicy == nil }, by: \.name)
    for (name, containers) in living { survivors[name] = survivor(of: containers) }
    let aside = Dictionary(grouping: alive.filter { $0.container?.setAsidePolicy != nil }, by: \.name)
    setAside = aside.compactMapValues { $0.max { $0.createdAt < $1.createdAt } }
    isTrialOpen = intermediate == nil && targetServices.contains { hasTrial($0) }

    for service in currentServices where !wanted.contains(service.name) {
      guard service.container?.status != .dead else { continue }
      settle(service.name, decideRemoval(of: service))
    }
    for service in order {
      let others = (living[service.name] ?? []).filter {
        $0.container?.id != survivors[service.name]?.container?.id
      }
      let previous = setAside[service.name]
      let outcome =
        if let previous, others.isEmpty {
          decideTrial(service, previous)
        } else {
          decide(service, hasDuplicates: !others.isEmpty)
        }
      if outcome == .nothing { settledServices.insert(service.name) }
      settle(service.name, outcome)
      for other in others { settle(service.name, decideDuplicate(other, target: service)) }
      for other in aside[service.name] ?? [] where other != previous {
        settle(service.name, transition(of: other) ?? .lockedStep(.kill(other), .rule(.proven)))
      }
    }
    planSavedImages()
    planLock()
    planComponents()
    finish()
  }

  /// Turns a decision into a step, a request for the locks, or a wait.
  private mutating func settle(_ service: String, _ outcome: Outcome) {
    switch outcome {
    case .nothing: break
    case .step(let step, let reason): add(step, service: service, reason)
    case .lockedStep(let step, let reason):
      if holdsLocks {
        add(step, service: service, reason)
      } else {
        if !lockSeekers.contains(service) { lockSeekers.append(service) }
        progress.waiting.append(Waiting(service: service, .lock))
      }
    case .wait(let cause):
      progress.waiting.append(Waiting(service: service, cause))
    }
  }

  /// The locks cover every container that may be touched and every one that will be created.
  var holdsLocks: Bool {
    guard let held = input.locks[appId] else { return false }
    return held.isSuperset(of: serviceNames)
  }

  private var serviceNames: [String] {
    Array(Set(currentServices.map(\.name)).union(targetServices.map(\.name))).sorted()
  }

  private mutating func planLock() {
    guard !lockSeekers.isEmpty else { return }
    add(
      .takeLock(appId: appId, services: serviceNames, force: intermediate?.force ?? input.force),
      .rule(.lockNeeded(services: lockSeekers)))
  }

  /// Store the use of images that are present for another one.
  private mutating func planSavedImages() {
    var saved: Set<StoredImage> = []
    for service in targetServices {
      let row = StoredImage(for: service)
      guard let id = ImageRules.saveable(for: service, in: input.images), saved.insert(row).inserted
      else { continue }
      add(.saveImage(row, engineId: id), service: service.name, .rule(.imageUnderOtherUse))
    }
  }

  private mutating func finish() {
    let isBlocked = progress.waiting.contains { !isForReboot($0) }
    guard steps.isEmpty else { return }
    guard !isBlocked else {
      if progress.waiting.allSatisfy(isLong) { planLockRelease() }
      return
    }
    progress.isSettled = true
    if let commit = target?.commit, input.commits[appId] != commit {
      let stored = input.commits[appId] ?? "none"
      add(
        .updateCommit(appId: appId, commit: commit),
        .differences([Difference(field: "commit", current: stored, target: commit)]))
    }
    planLockRelease()
  }

  private mutating func planLockRelease() {
    guard intermediate == nil else { return }
    guard input.locks[appId] != nil || input.leftoverLocks.contains(appId) else { return }
    add(.releaseLock(appId: appId), .rule(.lockNoLongerNeeded))
  }

  /// It may be long until the wait ends, and until then nothing needs the locks. A service that is
  /// down until its image comes keeps them: no one's lock is to come between it and its start.
  private func isLong(_ waiting: Waiting) -> Bool {
    switch waiting.cause {
    case .failedUpdate, .dependenciesOutOfReach: true
    case .networks, .volumes: failedUpdate != nil
    case .imageBackOff, .images: waiting.service.map { survivors[$0] != nil } ?? false
    default: isForReboot(waiting)
    }
  }

  /// A service that only a reboot lets start does not hold the app back.
  private func isForReboot(_ waiting: Waiting) -> Bool {
    switch waiting.cause {
    case .reboot: true
    case .dependenciesOutOfReach: waiting.service.map(heldForReboot.contains) ?? false
    default: false
    }
  }

  // MARK: - Only the current side

  /// Services, then networks, then volumes, each stage when the one before is done.
  private mutating func planRemoval() {
    guard !AgentApp.uuids.contains(current?.uuid ?? "") else {
      progress.isSettled = true
      return
    }
    if !currentServices.isEmpty {
      for service in currentServices { settle(service.name, decideAppRemoval(of: service)) }
      planLock()
      return
    }
    for network in current?.networks ?? [] { add(.removeNetwork(network), .rule(.appNotInTarget)) }
    guard steps.isEmpty else { return }
    if intermediate != nil || !input.keepVolumes {
      for volume in current?.volumes ?? [] { add(.removeVolume(volume), .rule(.appNotInTarget)) }
    }
    guard steps.isEmpty else { return }
    progress.isSettled = true
    planLockRelease()
  }

  // MARK: -

  mutating func add(_ step: Step, service: String? = nil, _ reason: Reason) {
    steps.append(PlannedStep(step, appId: appId, service: service, reason: reason))
  }

  mutating func addWait(_ cause: Waiting.Cause) { progress.waiting.append(Waiting(cause)) }

  /// Containers of before multi-container releases: their marks are copied to the target, so
  /// that they do not count as a difference (state-engine 3.2).
  private static func withLegacyLabels(
    current: [Service], target: [Service]
  ) -> (current: [Service], target: [Service]) {
    guard current.count == 1, target.count == 1, let old = current.first, var new = target.first,
      old.name == new.name, let legacy = old.config.labels["io.balena.legacy-container"]
    else { return (current, target) }
    new.config.labels["io.balena.legacy-container"] = legacy
    new.config.labels["io.balena.service-id"] = old.config.labels["io.balena.service-id"]
    new.serviceId = old.serviceId
    return (current, [new])
  }
}

/// What is decided about one service.
nonisolated enum Outcome: Equatable {
  case nothing
  case step(Step, Reason)
  /// A step that touches a container and thus needs the app's locks.
  case lockedStep(Step, Reason)
  case wait(Waiting.Cause)
}
