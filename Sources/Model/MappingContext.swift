/// What a mapping needs to know of the device (target-state 3.1).
public nonisolated struct MappingContext: Sendable, Hashable {
  public var deviceUuid: String
  public var deviceType: String
  public var deviceArch: String
  /// `PRETTY_NAME` of os-release.
  public var osVersion: String
  public var hostName: String
  /// The agent's address on `supervisor0`; `127.0.0.1` when not known.
  public var supervisorHost: String
  public var listenPort: Int
  /// nil when the device has no backend.
  public var apiEndpoint: String?
  public var deviceApiKey: String?
  /// Keys of services with the `supervisor-api` feature; see `TargetApp.servicesWithSupervisorApi`.
  public var supervisorApiKeys: [ServiceKey: String]
  public var engineSocketPath: String
  /// Whether the host has `/lib/firmware`.
  public var hasHostFirmware: Bool
  /// Whether the host has `/lib/modules`.
  public var hasHostModules: Bool
  /// os-release `BALENA_BOARD_REV`, else `RESIN_BOARD_REV`.
  public var boardRev: String?

  /// A service of an app, across releases.
  public struct ServiceKey: Sendable, Hashable {
    public var appId: Int
    public var serviceName: String

    public init(appId: Int, serviceName: String) {
      self.appId = appId
      self.serviceName = serviceName
    }
  }

  public init(
    deviceUuid: String, deviceType: String = "unknown", deviceArch: String = "unknown", osVersion: String,
    hostName: String, supervisorHost: String = "127.0.0.1", listenPort: Int = 48484,
    apiEndpoint: String? = nil,
    deviceApiKey: String? = nil, supervisorApiKeys: [ServiceKey: String] = [:],
    engineSocketPath: String = "/var/run/docker.sock", hasHostFirmware: Bool = false,
    hasHostModules: Bool = false, boardRev: String? = nil
  ) {
    self.deviceUuid = deviceUuid
    self.deviceType = deviceType
    self.deviceArch = deviceArch
    self.osVersion = osVersion
    self.hostName = hostName
    self.supervisorHost = supervisorHost
    self.listenPort = listenPort
    self.apiEndpoint = apiEndpoint
    self.deviceApiKey = deviceApiKey
    self.supervisorApiKeys = supervisorApiKeys
    self.engineSocketPath = engineSocketPath
    self.hasHostFirmware = hasHostFirmware
    self.hasHostModules = hasHostModules
    self.boardRev = boardRev
  }
}
