import JSON

/// One setting of the agent (host 2.1): where it is kept, what it may be, what it is when absent.
public nonisolated struct SettingKey: Sendable {
  public enum Source: Sendable, Hashable { case configFile, database }

  public let name: String
  public let source: Source
  /// Whether the agent may change it.
  public let isMutable: Bool
  public let rule: SettingRule
  /// nil means absent.
  public let defaultValue: JSON?
  /// A secret shows in no error text.
  public let isSecret: Bool
  /// Setting null removes the member instead of writing `null`.
  public let isRemovedByNull: Bool

  private init(
    _ name: String, _ source: Source, _ rule: SettingRule, _ defaultValue: JSON? = nil, isFixed: Bool = false,
    isSecret: Bool = false, isRemovedByNull: Bool = false
  ) {
    self.name = name
    self.source = source
    self.rule = rule
    self.defaultValue = defaultValue
    isMutable = !isFixed
    self.isSecret = isSecret
    self.isRemovedByNull = isRemovedByNull
  }

  /// The key of a name; nil for a name that is not in the schema.
  public init?(named name: String) {
    guard let key = Self.byName[name] else { return nil }
    self = key
  }

  private static let byName = Dictionary(all.map { ($0.name, $0) }) { first, _ in first }
}

nonisolated extension SettingKey: Hashable {
  public static func == (a: SettingKey, b: SettingKey) -> Bool { a.name == b.name }
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

nonisolated extension SettingKey: CustomStringConvertible {
  public var description: String { name }
}

// MARK: - config.json

nonisolated extension SettingKey {
  /// Cloud API base; empty means unmanaged.
  public static let apiEndpoint = SettingKey("apiEndpoint", .configFile, .string, "", isFixed: true)
  /// Socket timeout of the local API, milliseconds.
  public static let apiTimeout = SettingKey("apiTimeout", .configFile, .number, 900_000, isFixed: true)
  public static let listenPort = SettingKey("listenPort", .configFile, .number, 48_484, isFixed: true)
  public static let deltaEndpoint = SettingKey(
    "deltaEndpoint", .configFile, .string, "https://delta.balena-cloud.com", isFixed: true)
  public static let uuid = SettingKey("uuid", .configFile, .string)
  /// The provisioning key.
  public static let apiKey = SettingKey(
    "apiKey", .configFile, .string, isSecret: true, isRemovedByNull: true)
  public static let deviceApiKey = SettingKey("deviceApiKey", .configFile, .string, "", isSecret: true)
  public static let deviceId = SettingKey("deviceId", .configFile, .number)
  /// Milliseconds since 1970.
  public static let registeredAt = SettingKey("registered_at", .configFile, .number)
  public static let applicationId = SettingKey("applicationId", .configFile, .number, isFixed: true)
  /// Milliseconds.
  public static let appUpdatePollInterval = SettingKey(
    "appUpdatePollInterval", .configFile, .number, 900_000)
  /// Milliseconds.
  public static let bootstrapRetryDelay = SettingKey(
    "bootstrapRetryDelay", .configFile, .number, 30_000, isFixed: true)
  public static let hostname = SettingKey("hostname", .configFile, .string)
  public static let persistentLogging = SettingKey("persistentLogging", .configFile, .boolean, false)
  public static let initialDeviceName = SettingKey("initialDeviceName", .configFile, .string, isFixed: true)
  public static let developmentMode = SettingKey("developmentMode", .configFile, .boolean, false)
  public static let logsEndpoint = SettingKey("logsEndpoint", .configFile, .string, isFixed: true)
  public static let os = SettingKey("os", .configFile, .object)
}

// MARK: - Database

nonisolated extension SettingKey {
  /// Written by an external program only (host 2.3).
  public static let apiEndpointOverride = SettingKey("apiEndpointOverride", .database, .string, isFixed: true)
  /// Written by an external program only (host 2.3).
  public static let listenPortOverride = SettingKey("listenPortOverride", .database, .number, isFixed: true)
  /// Device name of the target.
  public static let name = SettingKey("name", .database, .string, "local")
  public static let initialConfigReported = SettingKey("initialConfigReported", .database, .string, "")
  public static let initialConfigSaved = SettingKey("initialConfigSaved", .database, .boolean, false)
  public static let containersNormalised = SettingKey("containersNormalised", .database, .boolean, false)
  public static let loggingEnabled = SettingKey("loggingEnabled", .database, .boolean, true)
  public static let connectivityCheckEnabled = SettingKey(
    "connectivityCheckEnabled", .database, .boolean, true)
  /// Milliseconds.
  public static let apiRequestTimeout = SettingKey("apiRequestTimeout", .database, .number, 59_000)
  public static let delta = SettingKey("delta", .database, .boolean, false)
  /// Milliseconds.
  public static let deltaRequestTimeout = SettingKey("deltaRequestTimeout", .database, .number, 59_000)
  /// Milliseconds, 0 for none.
  public static let deltaApplyTimeout = SettingKey("deltaApplyTimeout", .database, .number, 0)
  public static let deltaRetryCount = SettingKey("deltaRetryCount", .database, .number, 30)
  /// Milliseconds.
  public static let deltaRetryInterval = SettingKey("deltaRetryInterval", .database, .number, 10_000)
  public static let deltaVersion = SettingKey("deltaVersion", .database, .number, 2)
  public static let lockOverride = SettingKey("lockOverride", .database, .boolean, false)
  public static let legacyAppsPresent = SettingKey("legacyAppsPresent", .database, .boolean, false)
  public static let pinDevice = SettingKey("pinDevice", .database, .pin)
  public static let targetStateSet = SettingKey("targetStateSet", .database, .boolean, false)
  public static let localMode = SettingKey("localMode", .database, .boolean, false)
  public static let instantUpdates = SettingKey("instantUpdates", .database, .boolean, true)
  public static let firewallMode = SettingKey("firewallMode", .database, .string)
  public static let hostDiscoverability = SettingKey("hostDiscoverability", .database, .boolean, true)
  public static let hardwareMetrics = SettingKey("hardwareMetrics", .database, .boolean, true)
  public static let reportedTags = SettingKey("reportedTags", .database, .stringMap)
  public static let targetTags = SettingKey("targetTags", .database, .stringMap)

  /// The whole schema.
  public static let all: [SettingKey] = [
    apiEndpoint, apiTimeout, listenPort, deltaEndpoint, uuid, apiKey, deviceApiKey, deviceId, registeredAt,
    applicationId, appUpdatePollInterval, bootstrapRetryDelay, hostname, persistentLogging,
    initialDeviceName, developmentMode, logsEndpoint, os, apiEndpointOverride, listenPortOverride, name,
    initialConfigReported, initialConfigSaved, containersNormalised, loggingEnabled,
    connectivityCheckEnabled, apiRequestTimeout, delta, deltaRequestTimeout, deltaApplyTimeout,
    deltaRetryCount, deltaRetryInterval, deltaVersion, lockOverride, legacyAppsPresent, pinDevice,
    targetStateSet, localMode, instantUpdates, firewallMode, hostDiscoverability, hardwareMetrics,
    reportedTags, targetTags,
  ]
}
