import JSON

/// The state that a device shall reach: what to run and how to be configured.
///
/// Source: specification target-state 1. The values are validated; see
/// `TargetStateDocument` for reading them from the wire.
public nonisolated struct TargetState: Sendable, Hashable {
  public var deviceName: String
  /// Device configuration variables as sent, with their prefixes.
  public var config: [String: String]
  public var apps: [TargetApp]

  public init(deviceName: String, config: [String: String] = [:], apps: [TargetApp] = []) {
    self.deviceName = deviceName
    self.config = config
    self.apps = apps
  }
}

/// One app of the target state and the release it shall run.
public nonisolated struct TargetApp: Sendable, Hashable {
  public enum Class: String, Sendable { case fleet, app, block }

  public var appId: Int
  public var uuid: String
  public var name: String
  public var appClass: Class
  public var isHost: Bool
  /// Set when the release's contract is not met (target-state 7.4); the app is then left alone.
  public var isRejected: Bool
  /// Where the app came from: `local`, or the API endpoint (target-state 1.6).
  public var source: String
  /// nil when the app is to run nothing.
  public var release: TargetRelease?
  /// Why what is stored of the app cannot be read; the app is then left alone.
  public var problem: String?

  public init(
    appId: Int, uuid: String, name: String, appClass: Class = .fleet, isHost: Bool = false,
    isRejected: Bool = false, source: String, release: TargetRelease?, problem: String? = nil
  ) {
    self.appId = appId
    self.uuid = uuid
    self.name = name
    self.appClass = appClass
    self.isHost = isHost
    self.isRejected = isRejected
    self.source = source
    self.release = release
    self.problem = problem
  }
}

/// The first release of an app in the target state; others are not used.
public nonisolated struct TargetRelease: Sendable, Hashable {
  public var commit: String
  public var id: Int
  /// In document order.
  public var services: [TargetService]
  /// Name to composition, in document order: the first network is a service's default.
  public var networks: JSONObject
  public var volumes: JSONObject

  public init(
    commit: String, id: Int, services: [TargetService] = [], networks: JSONObject = [:],
    volumes: JSONObject = [:]
  ) {
    self.commit = commit
    self.id = id
    self.services = services
    self.networks = networks
    self.volumes = volumes
  }
}

/// A service as the target state names it, before it is mapped to a container.
public nonisolated struct TargetService: Sendable, Hashable {
  public var name: String
  public var serviceId: Int
  public var imageId: Int
  /// Normalised image reference (target-state 4.6).
  public var image: String
  public var environment: [String: String]
  public var labels: [String: String]
  public var isRunning: Bool
  public var contract: JSON?
  public var composition: JSONObject
  /// Fields of the document that are not known here: kept and given back unchanged.
  public var otherFields: JSONObject = [:]

  public init(
    name: String, serviceId: Int, imageId: Int, image: String, environment: [String: String] = [:],
    labels: [String: String] = [:], isRunning: Bool = true, contract: JSON? = nil,
    composition: JSONObject = [:]
  ) {
    self.name = name
    self.serviceId = serviceId
    self.imageId = imageId
    self.image = image
    self.environment = environment
    self.labels = labels
    self.isRunning = isRunning
    self.contract = contract
    self.composition = composition
  }
}
