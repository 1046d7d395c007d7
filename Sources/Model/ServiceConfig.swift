/// What a container is made of, in the one form in which a target and a running container are comparable.
///
/// Two ways lead here: `ServiceMapping` makes it from a composition, `Service(inspecting:)` reads it
/// back from the engine. Both normalise, so that a container made from a target equals it: what the
/// engine fills in, cleans or drops (target-state 4.4) is filled in, cleaned or dropped on both sides.
/// Properties are named after the composition's keys. Source: target-state 3.3.
public nonisolated struct ServiceConfig: Sendable, Hashable {
  /// The engine's image id when the image is present, else the normalised reference.
  public var image: String
  public var isRunning: Bool
  public var labels: [String: String]
  /// Without the two `…_DEVICE_NAME_AT_INIT` variables, which exist at create time only.
  public var environment: [String: String]

  public var command: [String] = []
  public var entrypoint: [String] = []
  public var user = ""
  /// In clean form, as the engine stores it.
  public var workingDir = ""
  public var hostname = ""
  public var domainname = ""
  public var macAddress = ""
  public var tty = false
  public var stopSignal = "SIGTERM"
  /// Whole seconds.
  public var stopGracePeriod = 10
  public var healthcheck = Healthcheck.none

  /// `host`, `bridge`, `none`, `service:<name>` (a target), `container:<id>` (a container),
  /// or an engine network's name.
  public var networkMode = ""
  /// By engine name.
  public var networks: [String: NetworkEndpoint] = [:]
  /// In the normal form of `PortRange.normalized`.
  public var ports: [PortRange] = []
  public var dns: [String] = []
  public var dnsSearch: [String] = []
  public var dnsOpt: [String] = []
  public var extraHosts: [String] = []

  public var volumes: [VolumeMount] = []
  public var tmpfs: [String] = []
  public var readOnly = false

  public var privileged = false
  public var capAdd: [String] = []
  public var capDrop: [String] = []
  /// Without `label=…` entries.
  public var securityOpt: [String] = []
  public var groupAdd: [String] = []
  public var devices: [Device] = []
  public var deviceRequests: [DeviceRequest] = []
  public var sysctls: [String: String] = [:]
  public var ulimits: [String: Ulimit] = [:]
  /// nil leaves it to the engine.
  public var initProcess: Bool?
  public var ipc = "shareable"
  public var pid = ""
  public var usernsMode = ""
  public var cgroupParent = ""
  /// `no`, `always`, `on-failure` or `unless-stopped`.
  public var restart = "always"

  /// Billionths of a CPU; not compared (target-state 4.4, rule 6).
  public var nanoCpus = 0
  public var cpuShares = 0
  public var cpuQuota = 0
  public var cpuset = ""
  /// Bytes; 0 is no limit.
  public var memLimit = 0
  /// Bytes.
  public var memReservation = 0
  /// Bytes.
  public var shmSize = ServiceConfig.defaultShmSize
  /// nil when the engine does not say because the kernel cannot.
  public var oomKillDisable: Bool? = false
  public var oomScoreAdj = 0
  /// 0 is no limit.
  public var pidsLimit = 0

  /// The engine's own default, 64 MiB.
  public static let defaultShmSize = 64 << 20

  public init(
    image: String, isRunning: Bool = true, labels: [String: String] = [:], environment: [String: String] = [:]
  ) {
    self.image = image
    self.isRunning = isRunning
    self.labels = labels
    self.environment = environment
  }
}

/// A container's membership in a network.
public nonisolated struct NetworkEndpoint: Sendable, Hashable {
  public var aliases: [String]
  public var ipv4Address: String?
  public var ipv6Address: String?
  public var linkLocalIps: [String]

  public init(
    aliases: [String] = [], ipv4Address: String? = nil, ipv6Address: String? = nil,
    linkLocalIps: [String] = []
  ) {
    self.aliases = aliases
    self.ipv4Address = ipv4Address
    self.ipv6Address = ipv6Address
    self.linkLocalIps = linkLocalIps
  }
}

/// A health check; times in nanoseconds, nil where the engine's default holds.
public nonisolated struct Healthcheck: Sendable, Hashable {
  public var test: [String]
  public var interval: Int?
  public var timeout: Int?
  public var startPeriod: Int?
  public var retries: Int?

  public static let none = Healthcheck(test: ["NONE"])

  public init(
    test: [String], interval: Int? = nil, timeout: Int? = nil, startPeriod: Int? = nil, retries: Int? = nil
  ) {
    self.test = test
    self.interval = interval
    self.timeout = timeout
    self.startPeriod = startPeriod
    self.retries = retries
  }
}

/// A device node given to a container.
public nonisolated struct Device: Sendable, Hashable {
  public var pathOnHost: String
  public var pathInContainer: String
  /// Of `rwm`.
  public var permissions: String

  public init(pathOnHost: String, pathInContainer: String, permissions: String = "rwm") {
    self.pathOnHost = pathOnHost
    self.pathInContainer = pathInContainer
    self.permissions = permissions
  }
}

/// A request to a device driver of the engine, such as for a GPU.
public nonisolated struct DeviceRequest: Sendable, Hashable {
  public var driver: String
  public var count: Int
  public var deviceIds: [String]
  public var capabilities: [[String]]
  public var options: [String: String]

  public static let gpu = DeviceRequest(
    driver: "", count: 1, deviceIds: [], capabilities: [["gpu"]], options: [:])

  public init(
    driver: String, count: Int, deviceIds: [String], capabilities: [[String]], options: [String: String]
  ) {
    self.driver = driver
    self.count = count
    self.deviceIds = deviceIds
    self.capabilities = capabilities
    self.options = options
  }
}

public nonisolated struct Ulimit: Sendable, Hashable {
  public var soft: Int
  public var hard: Int

  public init(soft: Int, hard: Int) {
    self.soft = soft
    self.hard = hard
  }
}

/// One entry of a service's volumes, short or long (target-state 3.7).
public nonisolated enum VolumeMount: Sendable, Hashable {
  /// A path in the container that gets a volume without a name.
  case anonymous(String)
  /// `<source>:<target>[:<mode>]` with the source as the engine knows it.
  case bind(String)
  case mount(Mount)
}

/// A mount in the engine's long form.
public nonisolated struct Mount: Sendable, Hashable {
  /// `volume`, `tmpfs` or `bind`.
  public var type: String
  public var source: String?
  public var target: String
  public var isReadOnly: Bool
  public var propagation: String?
  public var noCopy: Bool
  /// Bytes.
  public var tmpfsSize: Int?

  public init(
    type: String, source: String? = nil, target: String, isReadOnly: Bool = false, propagation: String? = nil,
    noCopy: Bool = false, tmpfsSize: Int? = nil
  ) {
    self.type = type
    self.source = source
    self.target = target
    self.isReadOnly = isReadOnly
    self.propagation = propagation
    self.noCopy = noCopy
    self.tmpfsSize = tmpfsSize
  }
}
