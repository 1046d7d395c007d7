public import Journal

/// What the API needs of the agent around it.
public protocol DeviceAPIHost: AnyObject {
  /// False in local mode and without an API endpoint; asked at every request.
  var isAuthorizationRequired: Bool { get }
  var isLocalMode: Bool { get }
  var isHealthy: Bool { get }
  /// Semantic version, with the build tag.
  var version: String { get }
  var deviceName: String { get }
  var deviceType: String { get }
  var architecture: String { get }
  /// Stored device configuration with the defaults of what is not set.
  var effectiveConfig: [String: String] { get }

  /// What `GET /v1/device` shows of the device.
  var deviceFacts: DeviceFacts { get }
  /// Goes up when `deviceFacts` has changed.
  var deviceFactsRevision: UInt64 { get }

  /// The setting `instantUpdates`: off, `POST /v1/update` without `force` does nothing.
  var areInstantUpdatesEnabled: Bool { get }
  /// Asks the cloud for a new target in the background, and applies it or what there is. Without a
  /// cloud nothing happens.
  func update(force: Bool, cancel: Bool)

  /// The global key has been replaced; the cloud is to learn of it as `api_secret`.
  func globalKeyChanged()

  /// The device's tags, from the cloud.
  func deviceTags() async throws(HostFailure) -> [DeviceTag]
  /// Keeps tags and reports them in the background.
  func setDeviceTags(_ tags: [String: String]) throws(HostFailure)

  func vpnStatus() async throws(HostFailure) -> VPNStatus

  /// Where the host's journal is.
  var journalSource: JournalReader.Source { get }
  /// The setting `SUPERVISOR_LOG_CONTROL`: off, nothing is sent to those who follow the logs.
  var areLogsSent: Bool { get }
  /// Light, hostname and proxy; nil where there is no host to control.
  var hostControl: (any HostControl)? { get }
}

extension DeviceAPIHost {
  public var journalSource: JournalReader.Source { .system }
  public var areLogsSent: Bool { true }
}

/// What cannot be had of the host or the cloud; the message is for the caller of the API.
public nonisolated struct HostFailure: Error, Sendable {
  public let message: String
  public init(_ message: String) { self.message = message }
}

/// Facts about the device that change rarely; what is not known is nil and left out.
public nonisolated struct DeviceFacts: Sendable, Hashable {
  /// The configured port, not one that a proxy put in its place.
  public var listenPort = 48484
  /// IPv4 and IPv6, without those of bridges, VPN and containers.
  public var addresses: [String] = []
  /// `PRETTY_NAME` of os-release.
  public var osVersion: String?
  /// Separated by blanks.
  public var macAddresses: String?

  public init() {}
}

/// A tag as the cloud keeps it.
public nonisolated struct DeviceTag: Sendable, Hashable {
  public var id: Int
  public var name: String
  public var value: String

  public init(id: Int, name: String, value: String) {
    self.id = id
    self.name = name
    self.value = value
  }
}

public nonisolated struct VPNStatus: Sendable, Hashable {
  /// The unit is there and not stopped.
  public var isEnabled: Bool
  public var isConnected: Bool

  public init(isEnabled: Bool, isConnected: Bool) {
    self.isEnabled = isEnabled
    self.isConnected = isConnected
  }
}
