/// An app as the planner sees it, current or target: services, networks and volumes
/// mapped to what the engine knows of them.
public nonisolated struct App: Sendable, Hashable {
  public var appId: Int
  /// nil when components of before app uuids exist (target-state 4.3).
  public var uuid: String?
  public var name: String
  /// The target release's commit; of a current app, the commit last applied in full.
  public var commit: String?
  public var isHost: Bool
  public var isRejected: Bool
  /// Why the target cannot be mapped to containers: such an app is rejected, too, and left alone.
  public var problem: String?
  /// Where a target app came from: `local`, or the API endpoint; nil for a current app.
  public var source: String?
  public var services: [Service]
  public var networks: [Network]
  public var volumes: [Volume]

  public init(
    appId: Int, uuid: String?, name: String, commit: String? = nil, isHost: Bool = false,
    isRejected: Bool = false, source: String? = nil, services: [Service] = [], networks: [Network] = [],
    volumes: [Volume] = []
  ) {
    self.appId = appId
    self.uuid = uuid
    self.name = name
    self.commit = commit
    self.isHost = isHost
    self.isRejected = isRejected
    self.source = source
    self.services = services
    self.networks = networks
    self.volumes = volumes
  }
}

/// One service of an app: what its container is, or shall be.
public nonisolated struct Service: Sendable, Hashable {
  public var appId: Int
  public var appUuid: String?
  public var name: String
  public var serviceId: Int
  public var imageId: Int
  public var releaseId: Int
  public var commit: String?
  /// Normalised image reference. Of a current service: the name the image table knows,
  /// else the engine's image id.
  public var imageName: String
  /// What has to be reached before the start; target services only.
  public var dependencies: [Dependency]
  public var config: ServiceConfig
  /// Set for a current service, nil for a target.
  public var container: Container?

  /// What only an existing container has.
  public struct Container: Sendable, Hashable {
    public var id: String
    /// Without the leading slash.
    public var name: String
    /// RFC 3339, as the engine says it.
    public var createdAt: String
    public var startedAt: String?
    public var status: ServiceStatus
    /// `State.Error` of the engine: why the last start failed.
    public var startError: String
    public var exitCode: Int?
    /// nil when the container has no health check.
    public var health: ContainerHealth?

    public init(
      id: String, name: String, createdAt: String, startedAt: String? = nil, status: ServiceStatus,
      startError: String = "", exitCode: Int? = nil, health: ContainerHealth? = nil
    ) {
      self.id = id
      self.name = name
      self.createdAt = createdAt
      self.startedAt = startedAt
      self.status = status
      self.startError = startError
      self.exitCode = exitCode
      self.health = health
    }
  }

  public init(
    appId: Int, appUuid: String?, name: String, serviceId: Int, imageId: Int, releaseId: Int,
    commit: String?, imageName: String, dependencies: [Dependency] = [], config: ServiceConfig,
    container: Container? = nil
  ) {
    self.appId = appId
    self.appUuid = appUuid
    self.name = name
    self.serviceId = serviceId
    self.imageId = imageId
    self.releaseId = releaseId
    self.commit = commit
    self.imageName = imageName
    self.dependencies = dependencies
    self.config = config
    self.container = container
  }
}

/// What the engine found by a container's health check.
public nonisolated enum ContainerHealth: String, Sendable, Hashable {
  case starting, healthy, unhealthy
}

/// Status texts of a service (state-engine 7.4). The engine's own texts pass through.
public nonisolated enum ServiceStatus: Sendable, Hashable {
  case installing, starting, stopping
  case running, installed, dead
  case engine(String)

  public var text: String {
    switch self {
    case .installing: "Installing"
    case .starting: "Starting"
    case .stopping: "Stopping"
    case .running: "Running"
    case .installed: "Installed"
    case .dead: "Dead"
    case .engine(let text): text
    }
  }
}

/// A field that differs between a container and its target, and thus a reason to act.
public nonisolated struct Difference: Sendable, Hashable {
  public var field: String
  public var current: String
  public var target: String

  public init(field: String, current: String, target: String) {
    self.field = field
    self.current = current
    self.target = target
  }
}
