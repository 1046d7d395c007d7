import Database
import Model
import TestSupport

@testable import StateEngine

/// A device without an engine: executes steps on values, with delays, failures and crashes
/// from a seed, and checks at each step the promises that the planner has to keep.
struct SimulatedDevice {
  var random: SeededGenerator
  /// Percent, of each step.
  var failures = 0
  var delays = 0

  var containers: [Service] = []
  var networks: [Network] = []
  var volumes: [Volume] = []
  var rows: [StoredImage] = []
  var engineImages: [String: EngineImage] = [:]
  var commits: [Int: String] = [:]
  var target: [App] = [] {
    didSet {
      failedUpdates = failedUpdates.filter { appId, _ in
        target.contains { $0.appId == appId } && oldValue == target
      }
    }
  }
  /// By container id: rounds until a container on trial has proven itself.
  var trials: [String: Int] = [:]
  /// By app id: rounds until an update that was taken back is tried again.
  var failedUpdates: [Int: Int] = [:]

  var locks: [Int: Set<String>] = [:]
  var leftovers: Set<Int> = []
  var userLocks: [Int: Set<String>] = [:]
  var force = false
  var keepImages = false
  var keepVolumes = false

  var isSupervisorNetworkReady = true
  var isFirmwareReady = true
  /// Containers that the agent noted before it stopped them; survives a crash.
  var ownStops: Set<String> = []
  /// By container id: since how many rounds it runs although it is noted.
  var notedRunning: [String: Int] = [:]
  /// By container id: rounds until the engine stops it for an agent that is gone.
  var lateStops: [String: Int] = [:]
  /// Exited containers that no one but the agent stopped.
  var stranded: Set<String> = []
  /// Containers that a user stopped through the API.
  var stoppedByUser: Set<String> = []

  var rebootScheduledAt: Int?
  var bootTime = 0

  var downloading: [StoredImage: Int] = [:]
  var backOff: [String: Int] = [:]
  var stopping: [String: Int] = [:]
  /// Of those that are on their way out, the ones that did not run before.
  var stopped: Set<String> = []
  var handovers: [String: Int] = [:]
  var paused: [Int: Int] = [:]

  var now = 1
  private var nextRow = 1
  private var nextContainer = 1
  var violations: [String] = []

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  // MARK: - Planning

  var inventory: ImageInventory { ImageInventory(rows: rows, engineImages: Array(engineImages.values)) }

  var current: [App] {
    var apps: [Int: App] = [:]
    func change(_ appId: Int, _ body: (inout App) -> Void) {
      var app = apps[appId] ?? App(appId: appId, uuid: uuid(appId), name: "")
      body(&app)
      apps[appId] = app
    }
    for service in containers { change(service.appId) { $0.services.append(service) } }
    for network in networks { change(network.appId) { $0.networks.append(network) } }
    for volume in volumes { change(volume.appId) { $0.volumes.append(volume) } }
    return apps.values.sorted { $0.appId < $1.appId }
  }

  var plannerInput: PlannerInput {
    var input = PlannerInput()
    input.current = current
    input.images = inventory
    input.target = resolved(target, input.images)
    input.downloading = Set(downloading.keys.map(\.name))
    input.imageBackOff = Set(backOff.keys)
    input.locks = locks
    input.leftoverLocks = leftovers
    input.commits = commits
    input.handovers = Set(handovers.keys)
    input.force = force
    input.keepImages = keepImages
    input.keepVolumes = keepVolumes
    input.reboot = RebootState(
      isScheduled: rebootScheduledAt != nil, isRequired: rebootScheduledAt.map { $0 > bootTime } ?? false,
      bootTime: Timestamp(container(of: service("x"), createdAt: bootTime).container?.createdAt ?? "")
        ?? Timestamp(seconds: 0))
    input.supervisorNetwork = isSupervisorNetworkReady ? .ready : .missing
    input.isExtraFirmwareReady = isFirmwareReady
    input.pausedApps = Set(paused.keys)
    input.restingApps = now.isMultiple(of: 3) ? input.pausedApps : []
    input.ownStops = ownStops
    input.proofs = trials.mapValues { $0 > 0 ? .pending : .proven }
    input.failedUpdates = failedUpdates.mapValues { _ in "it does not work" }
    return input
  }

  var isIdle: Bool {
    downloading.isEmpty && backOff.isEmpty && stopping.isEmpty && handovers.isEmpty && paused.isEmpty
      && lateStops.isEmpty && failedUpdates.isEmpty && trials.values.allSatisfy { $0 == 0 }
  }

  /// Plans and executes until nothing is left to do.
  ///
  /// - Returns: false when that does not happen within so many rounds.
  mutating func settle(rounds: Int = 600) -> Bool {
    for _ in 0..<rounds {
      let wasIdle = isIdle
      let plan = round()
      if plan.steps.isEmpty, wasIdle { return plan.isSettled }
    }
    return false
  }

  @discardableResult
  mutating func round() -> Plan {
    let input = plannerInput
    let plan = Planner.plan(input)
    // Of one subject the first step is begun; the others are planned again when it has ended.
    var begun: Set<String> = []
    for planned in plan.steps.filter({ begun.insert($0.subject).inserted }).shuffled(using: &random) {
      if random.chance(delays) { continue }
      check(planned, input)
      execute(planned)
    }
    checkContainers()
    passTime()
    return plan
  }

  private mutating func passTime() {
    now += 1
    for (id, rest) in stopping {
      stopping[id] = rest > 1 ? rest - 1 : nil
      if rest <= 1 { containers.removeAll { $0.container?.id == id } }
    }
    for (image, rest) in downloading {
      guard rest <= 1 else {
        downloading[image] = rest - 1
        continue
      }
      downloading[image] = nil
      if random.chance(failures) { backOff[image.name] = 3 } else { pulled(image) }
    }
    stopLate()
    backOff = backOff.compactMapValues { $0 > 1 ? $0 - 1 : nil }
    paused = paused.compactMapValues { $0 > 1 ? $0 - 1 : nil }
    handovers = handovers.compactMapValues { $0 > 1 ? $0 - 1 : nil }
    failedUpdates = failedUpdates.compactMapValues { $0 > 1 ? $0 - 1 : nil }
    judgeTrials()
  }

  private mutating func stopLate() {
    for (id, rest) in lateStops {
      lateStops[id] = rest > 1 ? rest - 1 : nil
      if rest <= 1 { end(id) }
    }
    let running = containers.filter(\.isRunning).compactMap { $0.container?.id }
    let noted = ownStops.intersection(running).subtracting(stopping.keys)
    notedRunning = notedRunning.filter { noted.contains($0.key) }
    for id in noted { notedRunning[id, default: 0] += 1 }
    for (id, rounds) in notedRunning where rounds > 5 { ownStops.remove(id) }
    ownStops.formIntersection(containers.compactMap { $0.container?.id })
  }

  /// The engine has stopped the container for the agent, and no one removes it.
  private mutating func end(_ id: String) {
    guard let index = containers.firstIndex(where: { $0.container?.id == id }), containers[index].isRunning
    else { return }
    containers[index].container?.status = .engine("exited")
    containers[index].config.isRunning = false
    stranded.insert(id)
  }

  /// New containers whose predecessors are kept prove themselves after some rounds, or fail.
  private mutating func judgeTrials() {
    let kept = Set(containers.filter { $0.container?.setAsidePolicy != nil }.map { "\($0.appId) \($0.name)" })
    let running = containers.filter {
      $0.container?.setAsidePolicy == nil && kept.contains("\($0.appId) \($0.name)")
        && $0.container?.status != .installed
    }
    let ids = Set(running.compactMap { $0.container?.id })
    trials = trials.filter { ids.contains($0.key) }
    for service in running {
      guard let id = service.container?.id else { continue }
      guard let rest = trials[id] else {
        trials[id] = Int.random(in: 1...4, using: &random)
        continue
      }
      trials[id] = max(rest - 1, 0)
      if rest == 1, random.chance(failures) {
        failedUpdates[service.appId] = 12
        trials[id] = nil
      }
    }
  }

  // MARK: - Executing

  private mutating func execute(_ planned: PlannedStep) {
    if let service = planned.step.stopped, service.isRunning, let id = service.container?.id {
      ownStops.insert(id)
    }
    if random.chance(failures) {
      if case .fetch = planned.step {} else { return fail(planned) }
    }
    switch planned.step {
    case .ensureSupervisorNetwork: isSupervisorNetworkReady = true
    case .ensureExtraFirmwareVolume: isFirmwareReady = true
    case .fetch(let image): downloading[image] = Int.random(in: 1...4, using: &random)
    case .saveImage(let image, _): save(image)
    case .removeImage(let image, let isShared): remove(image, isShared)
    case .cleanUpImages(let ids): for id in ids { engineImages[id] = nil }
    case .createNetwork(let network): networks.append(network)
    case .removeNetwork(let network):
      networks.removeAll { $0.appId == network.appId && $0.name == network.name }
    case .createVolume(let volume): volumes.append(volume)
    case .removeVolume(let volume):
      volumes.removeAll { $0.appId == volume.appId && $0.name == volume.name }
    case .takeLock(let appId, let services, let force): take(appId, Set(services), force)
    case .releaseLock(let appId):
      locks[appId] = nil
      leftovers.remove(appId)
    case .start(let target, let existing): start(target, existing?.id)
    case .kill(let service): setStatus(service, .stopping)
    case .stop(let service):
      change(service) { $0.container?.status = .engine("exited") }
      if let id = service.container?.id { stranded.insert(id) }
    case .remove(let service): containers.removeAll { $0.container?.id == service.container?.id }
    case .updateMetadata(let current, let target):
      change(current) {
        $0.commit = target.commit
        $0.imageId = target.imageId
        $0.releaseId = target.releaseId
        $0.container?.name = target.containerName
        if current.isHandingOver { $0.config.restart = target.config.restart }
      }
      if let id = current.container?.id { handovers[id] = nil }
    case .handover(let current, let target):
      change(current) {
        if !current.isHandingOver { $0.container?.name = "old_" + (current.container?.name ?? "") }
        $0.config.restart = "no"
      }
      let hasStarted = start(target, nil)
      if hasStarted, let id = current.container?.id { handovers[id] = Int.random(in: 1...5, using: &random) }
    case .setAside(let service):
      change(service) {
        $0.container?.name = service.setAsideName
        $0.container?.status = .engine("exited")
        $0.config.restart = "no"
      }
    case .restore(let service):
      change(service) {
        $0.config.restart = service.container?.setAsidePolicy ?? ""
        $0.container?.name = service.containerName
        $0.container?.status = .running
      }
      if let id = service.container?.id { started(id) }
    case .requireReboot: rebootScheduledAt = now
    case .reboot: reboot()
    case .updateCommit(let appId, let commit): commits[appId] = commit
    }
  }

  private mutating func fail(_ planned: PlannedStep) {
    if let appId = planned.appId { paused[appId] = 2 }
    // The container was created, but not started.
    if case .start(let target, nil) = planned.step, random.chance(50) { create(target) }
    // It was stopped, but not removed, or not yet named.
    if let service = planned.step.stopped, let id = service.container?.id, random.chance(50) { end(id) }
  }

  private mutating func change(_ service: Service, _ body: (inout Service) -> Void) {
    guard let index = containers.firstIndex(where: { $0.container?.id == service.container?.id }) else {
      violations.append("\(service.name) has no such container")
      return
    }
    body(&containers[index])
    containers[index].config.isRunning =
      [.running, .stopping].contains(containers[index].container?.status)
  }

  private mutating func setStatus(_ service: Service, _ status: ServiceStatus) {
    if !service.isRunning, let id = service.container?.id { stopped.insert(id) }
    change(service) { $0.container?.status = status }
    if let id = service.container?.id { stopping[id] = Int.random(in: 1...3, using: &random) }
  }

  @discardableResult
  private mutating func create(_ target: Service) -> String {
    let id = "c\(nextContainer)"
    nextContainer += 1
    containers.append(container(of: target, status: .installed, createdAt: now, id: id))
    return id
  }

  /// - Returns: false when the start fails, because another container holds the service's port.
  @discardableResult
  private mutating func start(_ target: Service, _ existing: String?) -> Bool {
    let isNew = existing == nil
    let id = existing ?? create(target)
    if !target.isRunning || (isNew && target.requiresReboot) { return true }
    guard let index = containers.firstIndex(where: { $0.container?.id == id }) else { return true }
    let hasFixedPort = target.config.labels["fixed-port"] != nil
    let isPortTaken = containers.contains {
      $0.appId == target.appId && $0.name == target.name && $0.container?.id != id && $0.isRunning
    }
    containers[index].container?.startError = hasFixedPort && isPortTaken ? "port is already allocated" : ""
    if hasFixedPort, isPortTaken {
      paused[target.appId] = 2
      return false
    }
    if stoppedByUser.contains(id) { violations.append("started \(target.name), which a user stopped") }
    started(id)
    let hasExited = random.chance(10)
    containers[index].container?.status = hasExited ? .engine("exited") : .running
    containers[index].config.isRunning = !hasExited
    return true
  }

  private mutating func started(_ id: String) {
    ownStops.remove(id)
    stranded.remove(id)
  }

  private mutating func take(_ appId: Int, _ services: Set<String>, _ force: Bool) {
    if force { userLocks[appId] = nil }
    if let user = userLocks[appId], !user.isDisjoint(with: services) {
      locks[appId] = nil
      leftovers.remove(appId)
      paused[appId] = 2
      return
    }
    locks[appId, default: []].formUnion(services)
    leftovers.remove(appId)
  }

  private mutating func reboot() {
    crash()
    leftovers = []
    userLocks = [:]
    rebootScheduledAt = nil
    now += 1
    bootTime = now
    now += 1
  }

  // MARK: - Images

  mutating func pulled(_ image: StoredImage) {
    let pulled = engineImage(shortName(image.name))
    var known = engineImages[pulled.id] ?? EngineImage(id: pulled.id)
    known.repoTags = Array(Set(known.repoTags + pulled.repoTags))
    known.repoDigests = Array(Set(known.repoDigests + pulled.repoDigests))
    engineImages[pulled.id] = known
    save(image)
  }

  private mutating func save(_ image: StoredImage) {
    let id = engineId(shortName(image.name))
    guard var known = engineImages[id] else {
      violations.append("saved \(image.name), which the engine does not have")
      return
    }
    let tag = engineImage(shortName(image.name)).repoTags
    known.repoTags = Array(Set(known.repoTags + tag))
    engineImages[id] = known
    guard !rows.contains(where: { $0.use == image.use }) else { return }
    var row = image
    row.id = nextRow
    row.engineId = id
    nextRow += 1
    rows.append(row)
  }

  private mutating func remove(_ image: StoredImage, _ isShared: Bool) {
    rows.removeAll { $0.id == image.id }
    guard !isShared else { return }
    let removed = engineImage(shortName(image.name))
    guard var known = engineImages[removed.id] else { return }
    known.repoTags.removeAll { removed.repoTags.contains($0) }
    known.repoDigests.removeAll { removed.repoDigests.contains($0) }
    if !known.repoTags.isEmpty || !known.repoDigests.isEmpty {
      engineImages[removed.id] = known
    } else {
      engineImages[removed.id] = nil
      if containers.contains(where: { $0.config.image == removed.id && $0.container?.status != .dead }) {
        violations.append("removed the image \(image.name) of a container")
      }
    }
  }

  // MARK: - Chaos

  /// The agent dies: what is only in memory is gone, what is on disk stays.
  mutating func crash() {
    leftovers.formUnion(locks.keys)
    locks = [:]
    handovers = [:]
    downloading = [:]
    backOff = [:]
    paused = [:]
    trials = [:]
    failedUpdates = [:]
    for id in stopping.keys {
      guard let index = containers.firstIndex(where: { $0.container?.id == id }) else { continue }
      let wasStopped = containers[index].container?.setAsidePolicy != nil || stopped.contains(id)
      containers[index].container?.status = wasStopped ? .engine("exited") : .running
      containers[index].config.isRunning = !wasStopped
      // The engine did not hear of the stop, has done it, or does it later.
      switch Int.random(in: 0..<3, using: &random) {
      case 0: break
      case 1: end(id)
      default: lateStops[id] = Int.random(in: 1...3, using: &random)
      }
    }
    stopping = [:]
    stopped = []
  }

  /// Something happens that nobody planned.
  mutating func disturb() {
    switch Int.random(in: 0..<10, using: &random) {
    case 0: crash()
    case 1:
      if let victim = containers.randomElement(using: &random) {
        containers.removeAll { $0.container?.id == victim.container?.id }
      }
    case 2:
      if let id = engineImages.keys.sorted().randomElement(using: &random) { engineImages[id] = nil }
    case 3:
      if let service = containers.randomElement(using: &random), stopping[service.container?.id ?? ""] == nil
      {
        change(service) { $0.container?.status = .engine("exited") }
      }
    case 4:
      if let service = containers.randomElement(using: &random), stopping[service.container?.id ?? ""] == nil
      {
        change(service) { $0.container?.status = .dead }
      }
    case 5:
      let appId = Int.random(in: 1...3, using: &random)
      if locks[appId] == nil, !leftovers.contains(appId) {
        userLocks[appId] = Set(["a", "b", "c", "d"].filter { _ in random.chance(30) })
      }
    case 6: userLocks = [:]
    case 7: isSupervisorNetworkReady = false
    case 8: stopThroughAPI()
    default:
      if let network = networks.randomElement(using: &random) { networks.append(network) }
    }
  }

  private mutating func stopThroughAPI() {
    let idle = containers.filter {
      locks[$0.appId] == nil && userLocks[$0.appId] == nil && $0.container?.status == .running
        && $0.container?.setAsidePolicy == nil
    }
    guard let service = idle.randomElement(using: &random), let id = service.container?.id else { return }
    ownStops.remove(id)
    lateStops[id] = nil
    stoppedByUser.insert(id)
    change(service) { $0.container?.status = .engine("exited") }
  }
}
