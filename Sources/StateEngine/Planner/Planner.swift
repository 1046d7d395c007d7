import Database
import Model

// The planner compares what is with what shall be and names the next steps.
//
// It is a pure function: everything it looks at is in `PlannerInput`, and the same input gives
// the same plan. It does not remember; a plan is good until something changes. What is not yet
// possible is not a step but a value, `Waiting`, so that a device that waits does nothing.
//
// Device-wide work comes first and stands alone: the supervisor network, then the firmware
// volume. After that each app is planned by itself (`AppPlanner`): a locked, failing or
// rejected app never delays another. Images are removed when their app has settled, never
// between the kill of an old container and the start of the new one.
//
// Invariants that the tests hold against random states:
// - no kill, stop, rename, hand-over or creation of a container without the app's locks;
// - no start before all images of the app's target are present;
// - a service starts after those it depends on and after its networks and volumes exist;
// - a volume is removed only when its configuration changes or its whole app goes;
// - a settled state plans nothing.

/// Source: state-engine 3.
public nonisolated enum Planner {
  public static func plan(_ input: PlannerInput) -> Plan {
    var plan = Plan()
    if planSupervisorNetwork(input, into: &plan) { return plan }
    if planExtraFirmware(input, into: &plan) { return plan }
    planApps(input, into: &plan)
    planImages(input, into: &plan)
    planReboot(input, into: &plan)
    return plan
  }

  /// Services that talk to the agent hold the network open, so they go first, without locks; those of
  /// an app whose last step failed, when its next try is due.
  private static func planSupervisorNetwork(_ input: PlannerInput, into plan: inout Plan) -> Bool {
    let reason: Reason
    switch input.supervisorNetwork {
    case .ready: return false
    case .missing: reason = .rule(.supervisorNetworkMissing)
    case .wrong(let differences): reason = .rule(.supervisorNetworkWrong(differences))
    }
    waitAll(input, for: .supervisorNetwork, in: &plan)
    var isInUse = false
    for app in input.current.sorted(by: { $0.appId < $1.appId }) {
      for service in app.plannedServices where service.hasFeature("supervisor-api") {
        isInUse = true
        guard !input.pausedApps.contains(app.appId) else { continue }
        switch service.container?.status {
        case .stopping: break
        case .dead:
          plan.steps.append(
            PlannedStep(.remove(service), appId: app.appId, service: service.name, reason: reason))
        default:
          plan.steps.append(
            PlannedStep(.kill(service), appId: app.appId, service: service.name, reason: reason))
        }
      }
    }
    if !isInUse { plan.steps.append(PlannedStep(.ensureSupervisorNetwork, reason: reason)) }
    return true
  }

  private static func planExtraFirmware(_ input: PlannerInput, into plan: inout Plan) -> Bool {
    guard !input.isExtraFirmwareReady else { return false }
    waitAll(input, for: .extraFirmwareVolume, in: &plan)
    plan.steps.append(
      PlannedStep(.ensureExtraFirmwareVolume, reason: .rule(.extraFirmwareVolumeMissing)))
    return true
  }

  private static func waitAll(_ input: PlannerInput, for cause: Waiting.Cause, in plan: inout Plan) {
    for app in input.current + input.target {
      plan.apps[app.appId] = AppProgress(waiting: [Waiting(cause)])
    }
  }

  private static func planApps(_ input: PlannerInput, into plan: inout Plan) {
    let current = Dictionary(input.current.map { ($0.appId, $0) }) { first, _ in first }
    var target = Dictionary(input.target.map { ($0.appId, $0) }) { first, _ in first }
    for (appId, intermediate) in input.intermediate { target[appId] = intermediate.app }
    let both = current.keys.filter { target[$0] != nil }.sorted()
    let removed = current.keys.filter { target[$0] == nil }.sorted()
    let added = target.keys.filter { current[$0] == nil }.sorted()
    let locked = Set(input.locks.keys).union(input.leftoverLocks)
    let gone = locked.filter { current[$0] == nil && target[$0] == nil }.sorted()

    var downloads = Downloads(input)
    for appId in both + removed + added + gone {
      var planner = AppPlanner(
        input: input, appId: appId, current: current[appId], target: target[appId], downloads: downloads)
      planner.plan()
      downloads = planner.downloads
      plan.steps += planner.steps
      plan.apps[appId] = planner.progress
    }
  }

  /// Rows that no one uses go when their app has settled or is gone (state-engine 6.8, 12).
  private static func planImages(_ input: PlannerInput, into plan: inout Plan) {
    guard !input.keepImages else { return }
    let current = input.current.flatMap(\.services)
    let target = input.target.flatMap(\.services)
    let early = Set(
      plan.steps.compactMap { step in
        if case .removeImage(let row, _) = step.step { row } else { nil }
      })
    let unused = ImageRules.unusedRows(in: input.images, current: current, target: target).filter { row in
      if let appId = row.appId, input.intermediate[appId] != nil { return false }
      let isPaused = row.appId.map(input.pausedApps.contains) ?? input.isDevicePaused
      let isSettled = row.appId.flatMap { plan.apps[$0] }?.isSettled ?? !isPaused
      return isSettled && !early.contains(row) && !input.imageBackOff.contains(row.name)
        && !input.downloading.contains { ImageName.isSame($0, row.name) }
    }
    for (row, isNameShared) in ImageRules.removals(of: unused, in: input.images) {
      plan.steps.append(
        PlannedStep(
          .removeImage(row, isNameShared: isNameShared), appId: row.appId, service: row.serviceName,
          reason: .rule(.imageUnused)))
    }

    let isFetching = plan.steps.contains { if case .fetch = $0.step { true } else { false } }
    guard !isFetching, input.downloading.isEmpty else { return }
    let cleanable = ImageRules.cleanable(
      in: input.images, agent: input.agentImage, inUse: Set(current.map(\.config.image)),
      ignored: input.ignoredCleanUps)
    if !cleanable.isEmpty {
      plan.steps.append(PlannedStep(.cleanUpImages(cleanable), reason: .rule(.imagesDangling)))
    }
  }

  /// A required reboot comes when nothing else is left: downloads, installs and the release of
  /// locks go first (state-engine 1.7).
  private static func planReboot(_ input: PlannerInput, into plan: inout Plan) {
    guard input.reboot.isRequired, plan.steps.isEmpty, input.downloading.isEmpty,
      input.intermediate.isEmpty
    else { return }
    let isQuiet = plan.apps.allSatisfy { appId, progress in
      // A proof may need what only starts after the reboot.
      let needsReboot = progress.waiting.contains { $0.cause == .reboot }
      return progress.isSettled
        || progress.waiting.allSatisfy {
          $0.cause.endsOnlyByChangeFromOutside || needsReboot && $0.cause == .proof
            || $0.cause.isForDependencies && input.impatientApps.contains(appId)
        }
    }
    guard isQuiet else { return }
    plan.isRebootPending = true
    guard !input.isDevicePaused else { return }
    plan.steps.append(PlannedStep(.reboot, reason: .rule(.rebootScheduled)))
  }
}

/// Pulls that run, or were planned in this plan, of all apps.
nonisolated struct Downloads {
  private(set) var keys: Set<String>
  private let limit: Int

  init(_ input: PlannerInput) {
    keys = Set(input.downloading.map(ImageName.key))
    limit = max(1, input.downloadLimit)
  }

  var isFull: Bool { keys.count >= limit }

  func contains(_ name: String) -> Bool { keys.contains(ImageName.key(name)) }

  mutating func add(_ name: String) { keys.insert(ImageName.key(name)) }
}

nonisolated extension Waiting.Cause {
  /// Neither a step of the agent nor the engine ends the wait: a reboot, or a new target does.
  var endsOnlyByChangeFromOutside: Bool {
    switch self {
    case .reboot, .dependenciesOutOfReach, .dependencyCycle, .rejected, .unmappable, .failedUpdate: true
    default: false
    }
  }

  /// What is there may yet meet them: its health is checked, or its work goes on.
  var isForDependencies: Bool { if case .dependencies = self { true } else { false } }
}
