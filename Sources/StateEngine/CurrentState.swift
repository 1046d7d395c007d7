public import Engine
import EventLoop
import JSON
import Logging
public import Model

/// What the engine has, kept in memory.
///
/// The engine's events say what changed; `refresh()` then reads just that. Everything is read
/// at the start, after a gap in the event stream and when `invalidate()` says so. Transient
/// statuses (a container that is being made, started or stopped) live here too, since no
/// engine knows them; they override what the engine says.
///
/// An object that cannot be understood is reported once and left out: one container with odd
/// labels does not hide the others (state-engine 1.4). Nor does one that the engine has but cannot
/// tell of: it stays as it was last known, and is asked for again with whatever is read next.
public final class CurrentState {
  /// By container id.
  public private(set) var services: [String: Service] = [:]
  /// By the engine's id.
  public private(set) var networks: [String: Network] = [:]
  /// By engine name.
  public private(set) var volumes: [String: Volume] = [:]
  public private(set) var engineImages: [EngineImage] = []
  public private(set) var supervisorNetwork: SupervisorNetworkState = .missing
  /// Gateway of `supervisor0`, where containers reach the API.
  public private(set) var supervisorGateway: String?
  public private(set) var hasExtraFirmwareVolume = false
  /// Goes up with every change of anything here.
  public private(set) var revision: UInt64 = 0
  /// Called when a transient status has changed, which no reading of the engine will tell.
  var onChange: () -> Void = {}
  /// True once everything has been read since the engine was last out of sight.
  public private(set) var isComplete = false
  /// True once everything has been read since the start.
  private(set) var wasRead = false

  private var dirtyContainers: Set<String> = []
  /// Containers that the engine could not tell of.
  private var untold: Set<String> = []
  private var needsContainers = true
  private var needsNetworks = true
  private var needsVolumes = true
  private var needsImages = true
  private var statuses: [String: ServiceStatus] = [:]
  private var installing: [ServiceKey: ServiceStatus] = [:]
  private var reportedObjects: Set<String> = []
  private var gone: [String] = []

  private let engine: EngineClient
  private let logger: Logger

  private static let goneLimit = 256
  private static let supervisedLabels = ["io.balena.supervised", "io.resin.supervised"]
  private static let extraFirmwareVolume = "extra-firmware"

  public init(engine: EngineClient, logger: Logger) {
    self.engine = engine
    self.logger = logger
  }

  // MARK: Transient statuses

  /// A service of an app, whether or not it has a container.
  public nonisolated struct ServiceKey: Hashable, Sendable {
    public let appId: Int
    public let service: String

    public init(appId: Int, service: String) {
      self.appId = appId
      self.service = service
    }
  }

  func setStatus(_ status: ServiceStatus?, container id: String) {
    statuses[id] = status
    if let status {
      services[id]?.container?.status = status
    } else {
      invalidate(container: id)
    }
    revision += 1
    onChange()
  }

  /// The status of a service that has no container yet.
  func setStatus(_ status: ServiceStatus?, of key: ServiceKey) {
    installing[key] = status
    revision += 1
    onChange()
  }

  /// Services that are being installed and have no container.
  public var installingServices: [ServiceKey: ServiceStatus] { installing }

  // MARK: Changes

  /// Everything is read anew by the next `refresh()`.
  public func invalidate() {
    needsContainers = true
    needsNetworks = true
    needsVolumes = true
    needsImages = true
    isComplete = false
  }

  /// A step of our own has removed the container. Ids are never used again, so an inspection
  /// that is still under way cannot bring it back.
  func forget(container id: String) { remove(id) }

  private func remove(_ id: String) {
    gone.append(id)
    if gone.count > Self.goneLimit { gone.removeFirst() }
    if services.removeValue(forKey: id) != nil { revision += 1 }
    dirtyContainers.remove(id)
    untold.remove(id)
    statuses[id] = nil
  }

  /// Something was reported as changed that has not been read again.
  var isStale: Bool {
    needsContainers || needsNetworks || needsVolumes || needsImages || !dirtyContainers.isEmpty
  }

  /// A step of ours has changed something since the last reading began.
  private(set) var hasOwnChanges = false

  /// A step of our own touched the container; the event may not be here yet.
  func invalidate(container id: String) {
    dirtyContainers.insert(id)
    hasOwnChanges = true
  }
  func invalidateNetworks() {
    needsNetworks = true
    hasOwnChanges = true
  }
  func invalidateVolumes() {
    needsVolumes = true
    hasOwnChanges = true
  }
  func invalidateImages() {
    needsImages = true
    hasOwnChanges = true
  }

  /// Takes in an event.
  ///
  /// - Returns: whether anything has to be read again.
  func note(_ event: EngineEvent) -> Bool {
    switch event.type {
    case "container":
      if Self.isIrrelevant(containerAction: event.action) { return false }
      if event.action == "destroy" {
        let isOurs = services[event.id] != nil || Self.isSupervised(event.attributes)
        remove(event.id)
        return isOurs
      }
      guard services[event.id] != nil || Self.isSupervised(event.attributes) else { return false }
      dirtyContainers.insert(event.id)
    case "network":
      if event.action == "connect" || event.action == "disconnect" {
        guard let container = event.attributes["container"], services[container] != nil else { return false }
        dirtyContainers.insert(container)
      } else {
        needsNetworks = true
      }
    case "volume":
      guard event.action == "create" || event.action == "destroy" else { return false }
      needsVolumes = true
    case "image":
      needsImages = true
    default: return false
    }
    return true
  }

  private static func isIrrelevant(containerAction action: String) -> Bool {
    action.hasPrefix("exec_")
      || ["attach", "detach", "resize", "top", "copy", "export", "commit", "archive-path", "extract-to-dir"]
        .contains(action)
  }

  private static func isSupervised(_ labels: [String: String]) -> Bool {
    supervisedLabels.contains { labels[$0] != nil }
  }

  // MARK: Reading

  /// Reads what is out of date. Nothing is lost when it throws: the next call reads the same.
  ///
  /// A mark is taken off before its object is read: what is reported as changed while the
  /// answer is under way is read once more.
  func refresh() async throws(EngineError) {
    hasOwnChanges = false
    if needsContainers {
      needsContainers = false
      do throws(EngineError) {
        let listed = try await listContainers()
        for id in services.keys where !listed.contains(id) && !dirtyContainers.contains(id) { remove(id) }
        dirtyContainers.formUnion(listed)
      } catch {
        needsContainers = true
        throw error
      }
    }
    try await refreshContainers()
    if needsNetworks {
      needsNetworks = false
      do throws(EngineError) { try await refreshNetworks() } catch {
        needsNetworks = true
        throw error
      }
    }
    if needsVolumes {
      needsVolumes = false
      do throws(EngineError) { try await refreshVolumes() } catch {
        needsVolumes = true
        throw error
      }
    }
    if needsImages {
      needsImages = false
      do throws(EngineError) {
        engineImages = try await engine.listImages().map(EngineImage.init(listed:))
      } catch {
        needsImages = true
        throw error
      }
      revision += 1
    }
    isComplete = true
    wasRead = true
  }

  private func listContainers() async throws(EngineError) -> Set<String> {
    var ids: Set<String> = []
    for label in Self.supervisedLabels {
      for container in try await engine.listContainers(all: true, labels: [label]) {
        ids.insert(container.id)
      }
    }
    return ids
  }

  private func refreshContainers() async throws(EngineError) {
    let ids = dirtyContainers.union(untold)
    guard !ids.isEmpty else { return }
    dirtyContainers = []
    untold = []
    let inspections = ids.map { id in Inspection(id: id, engine: engine) }
    for inspection in inspections { await inspection.task?.value }
    var failure: EngineError?
    for inspection in inspections {
      let id = inspection.id
      if let container = inspection.container {
        take(container, container: id)
      } else if inspection.failure?.isNotFound == true {
        remove(id)
      } else if let error = inspection.failure, error.isOfOneObject {
        if !gone.contains(id) { untold.insert(id) }
        report(
          object: id, "The engine cannot tell of container \(id), which stays as it was: \(error.message)")
      } else {
        dirtyContainers.insert(id)
        failure = inspection.failure ?? failure
      }
    }
    revision += 1
    if let failure { throw failure }
  }

  private func take(_ inspect: JSON, container id: String) {
    guard !gone.contains(id) else { return }
    let labels = inspect["Config"]?["Labels"]?.objectValue
    guard Self.supervisedLabels.contains(where: { labels?[$0] != nil }) else {
      services[id] = nil
      return
    }
    do throws(ModelError) {
      var service = try Service(inspecting: inspect)
      if let status = statuses[id] { service.container?.status = status }
      services[id] = service
    } catch {
      services[id] = nil
      report(object: id, "Left out a container that cannot be understood: \(error)")
    }
  }

  private func refreshNetworks() async throws(EngineError) {
    var found: [String: Network] = [:]
    var supervisor: JSON?
    var isSupervisorUntold = false
    var names: [String: String] = [:]
    for summary in try await engine.listNetworks() {
      if summary.name == SupervisorNetwork.name || Self.isSupervised(summary.labels) {
        names[summary.id] = summary.name
      }
    }
    for (id, name) in names {
      let inspect: JSON
      do throws(EngineError) { inspect = try await engine.inspectNetwork(id) } catch {
        if error.isNotFound { continue }
        guard error.isOfOneObject else { throw error }
        report(
          object: id, "The engine cannot tell of network \(name), which stays as it was: \(error.message)")
        if name == SupervisorNetwork.name { isSupervisorUntold = true }
        found[id] = networks[id]
        continue
      }
      if inspect["Name"]?.stringValue == SupervisorNetwork.name {
        supervisor = inspect
        continue
      }
      do throws(ModelError) {
        var network = try Network(inspecting: inspect)
        network.engineId = id
        found[id] = network
      } catch {
        report(object: id, "Left out a network that cannot be understood: \(error)")
      }
    }
    networks = found
    revision += 1
    if supervisor == nil, isSupervisorUntold {
      // It is there, and nothing is known against it.
      if supervisorNetwork == .missing { supervisorNetwork = .ready }
      supervisorGateway = supervisorGateway ?? SupervisorNetwork.gatewayAddress
      return
    }
    supervisorGateway = supervisor.flatMap(SupervisorNetwork.gateway)
    supervisorNetwork =
      supervisor.map {
        let differences = SupervisorNetwork.differences($0)
        return differences.isEmpty ? .ready : .wrong(differences)
      } ?? .missing
  }

  private func refreshVolumes() async throws(EngineError) {
    var found: [String: Volume] = [:]
    var hasExtraFirmware = false
    for inspect in try await engine.listVolumes() {
      guard let name = inspect["Name"]?.stringValue else { continue }
      if name == Self.extraFirmwareVolume { hasExtraFirmware = true }
      if let volume = Volume.reading(inspect) { found[name] = volume }
    }
    volumes = found
    hasExtraFirmwareVolume = hasExtraFirmware
    revision += 1
  }

  /// Warns of an object once, not at every reading.
  private func report(object: String, _ text: String) {
    if reportedObjects.count > 1000 { reportedObjects.removeAll() }
    if reportedObjects.insert(object).inserted { logger.warning("\(text)") }
  }
}

/// One call that runs beside others. It stores its outcome itself: the optimiser of this
/// toolchain breaks task results that are tuples or typed errors.
private final class Inspection {
  let id: String
  private(set) var container: JSON?
  private(set) var failure: EngineError?
  private(set) var task: Task<Void, Never>?

  init(id: String, engine: EngineClient) {
    self.id = id
    task = Task { [self] in
      do throws(EngineError) { container = try await engine.inspectContainer(id) } catch { failure = error }
    }
  }
}

nonisolated extension EngineError {
  /// The engine answers, but not about this object; unlike one that cannot be reached.
  fileprivate var isOfOneObject: Bool {
    switch kind {
    case .status, .malformedAnswer: true
    default: false
    }
  }
}

nonisolated extension EngineImage {
  init(listed summary: ImageSummary) {
    self.init(id: summary.id, repoTags: summary.repoTags, repoDigests: summary.repoDigests)
  }
}
