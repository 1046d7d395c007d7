import JSON

/// A network of an app.
public nonisolated struct Network: Sendable, Hashable {
  public var appId: Int
  public var appUuid: String?
  /// Without the app's prefix.
  public var name: String
  public var config: NetworkConfig
  /// The engine's id; of a current network only.
  public var engineId: String?

  public init(appId: Int, appUuid: String?, name: String, config: NetworkConfig, engineId: String? = nil) {
    self.appId = appId
    self.appUuid = appUuid
    self.name = name
    self.config = config
    self.engineId = engineId
  }

  /// `<appUuid>_<name>`; `<appId>_<name>` for one from before app uuids.
  public var engineName: String { (appUuid ?? "\(appId)") + "_" + name }
}

/// What is compared of a network (target-state 6.1 and 6.3).
public nonisolated struct NetworkConfig: Sendable, Hashable {
  public var driver = "bridge"
  public var options: [String: String] = [:]
  public var ipam = IPAM()
  public var enableIPv6 = false
  public var isInternal = false
  public var isConfigOnly = false
  /// Without `io.balena.supervised`.
  public var labels: [String: String] = [:]

  /// Address management: driver, its options, and the pools asked for.
  public struct IPAM: Sendable, Hashable {
    public var driver = "default"
    public var options: [String: String] = [:]
    public var config: [Pool] = []

    public init(driver: String = "default", options: [String: String] = [:], config: [Pool] = []) {
      self.driver = driver
      self.options = options
      self.config = config
    }
  }

  /// An address pool; empty texts are left out.
  public struct Pool: Sendable, Hashable {
    public var subnet = ""
    public var gateway = ""
    public var ipRange = ""
    public var auxAddresses: [String: String] = [:]

    public init(
      subnet: String = "", gateway: String = "", ipRange: String = "", auxAddresses: [String: String] = [:]
    ) {
      self.subnet = subnet
      self.gateway = gateway
      self.ipRange = ipRange
      self.auxAddresses = auxAddresses
    }
  }

  public init() {}
}

nonisolated extension Network {
  static let supervisedLabel = "io.balena.supervised"
  static let appIdLabel = "io.balena.app-id"
  static let ipamLabel = "io.balena.private.ipam.config"

  /// The body of `POST /networks/create`.
  public var createRequest: JSON {
    var labels = config.labels
    labels[Self.supervisedLabel] = "true"
    return [
      "Name": .string(engineName),
      "Driver": .string(config.driver),
      "CheckDuplicate": true,
      "Options": JSON(config.options),
      "IPAM": config.ipam.json,
      "EnableIPv6": .bool(config.enableIPv6),
      "Internal": .bool(config.isInternal),
      "ConfigOnly": .bool(config.isConfigOnly),
      "Labels": JSON(labels),
    ]
  }

  /// - Parameter inspect: the answer of `GET /networks/<name>` for a supervised network.
  /// - Throws: for a name that is not of an app's network.
  public init(inspecting inspect: JSON) throws(ModelError) {
    let engineName = inspect["Name"]?.stringValue ?? ""
    let labels = LegacyLabels.mapped(inspect["Labels"]?.stringMap ?? [:])
    guard let underscore = engineName.firstIndex(of: "_"), underscore != engineName.startIndex else {
      throw ModelError("Invalid network name: \(engineName)")
    }
    let owner = String(engineName[..<underscore])
    let name = String(engineName[underscore...].dropFirst())
    let isNumber = owner.utf8.allSatisfy { (0x30...0x39).contains($0) }
    guard !name.isEmpty, isNumber || owner.allSatisfy({ $0 == "-" || $0.isASCII && $0.isHexDigit }) else {
      throw ModelError("Invalid network name: \(engineName)")
    }
    let config = NetworkConfig(inspecting: inspect, labels: labels)
    let engineId = inspect["Id"]?.stringValue
    if let appId = labels[Self.appIdLabel].flatMap({ Coercions.integer(.string($0)) }) {
      self.init(appId: appId, appUuid: owner, name: name, config: config, engineId: engineId)
    } else if isNumber, let appId = Int(owner) {
      self.init(appId: appId, appUuid: nil, name: name, config: config, engineId: engineId)
    } else {
      throw ModelError("Could not read app id from network: \(engineName)")
    }
  }

  /// The fields in which this network of the engine differs from `target` (target-state 6.3).
  public func differences(to target: Network) -> [Difference] {
    let (current, wanted) = (config, target.config)
    var found = DifferenceList()
    if !wanted.isConfigOnly { found.exact("driver", current.driver, wanted.driver) }
    found.map("options", current.options, wanted.options)
    found.exact("ipam.driver", current.ipam.driver, wanted.ipam.driver)
    found.map("ipam.options", current.ipam.options, wanted.ipam.options)
    // The engine adds pools of its own choice; every pool asked for must be there.
    let hasAll = wanted.ipam.config.allSatisfy { pool in current.ipam.config.contains(where: pool.isMet) }
    if !hasAll {
      found.add(
        "ipam.config", JSON.array(current.ipam.config.map(\.json)), JSON.array(wanted.ipam.config.map(\.json))
      )
    }
    found.exact("enableIPv6", current.enableIPv6, wanted.enableIPv6)
    found.exact("internal", current.isInternal, wanted.isInternal)
    found.exact("configOnly", current.isConfigOnly, wanted.isConfigOnly)
    found.map("labels", current.labels, wanted.labels)
    return found.all
  }
}

nonisolated extension NetworkConfig.Pool {
  /// Whether `current` is this pool. A gateway that was not asked for is the engine's to choose; it shows it
  /// once it has been restarted.
  func isMet(by current: Self) -> Bool {
    var current = current
    if gateway.isEmpty { current.gateway = "" }
    return current == self
  }

  var json: JSON {
    var members = JSONObject()
    if !subnet.isEmpty { members["Subnet"] = .string(subnet) }
    if !gateway.isEmpty { members["Gateway"] = .string(gateway) }
    if !ipRange.isEmpty { members["IPRange"] = .string(ipRange) }
    if !auxAddresses.isEmpty { members["AuxiliaryAddresses"] = JSON(auxAddresses) }
    return .object(members)
  }

  init(inspecting value: JSON) {
    self.init(
      subnet: value["Subnet"]?.stringValue ?? "", gateway: value["Gateway"]?.stringValue ?? "",
      ipRange: value["IPRange"]?.stringValue ?? "",
      auxAddresses: value["AuxiliaryAddresses"]?.stringMap ?? [:])
  }
}

nonisolated extension NetworkConfig.IPAM {
  var json: JSON {
    ["Driver": .string(driver), "Config": .array(config.map(\.json)), "Options": JSON(options)]
  }

  init(inspecting value: JSON?) {
    self.init(
      driver: value?["Driver"]?.stringValue ?? "default", options: value?["Options"]?.stringMap ?? [:],
      config: (value?["Config"]?.arrayValue ?? []).map(NetworkConfig.Pool.init(inspecting:)))
  }
}

nonisolated extension NetworkConfig {
  init(inspecting inspect: JSON, labels: [String: String]) {
    driver = inspect["Driver"]?.stringValue ?? ""
    options = inspect["Options"]?.stringMap ?? [:]
    ipam = IPAM(inspecting: inspect["IPAM"])
    enableIPv6 = inspect["EnableIPv6"]?.boolValue ?? false
    isInternal = inspect["Internal"]?.boolValue ?? false
    isConfigOnly = inspect["ConfigOnly"]?.boolValue ?? false
    self.labels = labels
    self.labels[Network.supervisedLabel] = nil
  }
}
