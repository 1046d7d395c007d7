/// A device configuration variable that changes a setting of the agent (host 3.2).
public nonisolated struct DeviceVariable: Sendable, Hashable {
  public enum Kind: Sendable, Hashable { case boolean, integer, string }

  /// Without prefix.
  public let name: String
  /// nil for a variable that is no setting (VPN).
  public let key: SettingKey?
  public let kind: Kind
  public let defaultText: String
  /// Whether a change takes effect with the next boot only.
  public let needsReboot: Bool

  private init(
    _ name: String, _ key: SettingKey?, _ kind: Kind, _ defaultText: String, needsReboot: Bool = false
  ) {
    self.name = name
    self.key = key
    self.kind = kind
    self.defaultText = defaultText
    self.needsReboot = needsReboot
  }

  public static let vpnControl = "SUPERVISOR_VPN_CONTROL"
  public static let localMode = "SUPERVISOR_LOCAL_MODE"
  public static let overrideLock = "SUPERVISOR_OVERRIDE_LOCK"
  /// Old name; overwrites `overrideLock`.
  public static let legacyOverrideLock = "OVERRIDE_LOCK"

  public static let table: [DeviceVariable] = [
    DeviceVariable("SUPERVISOR_POLL_INTERVAL", .appUpdatePollInterval, .integer, "900000"),
    DeviceVariable("SUPERVISOR_INSTANT_UPDATE_TRIGGER", .instantUpdates, .boolean, "true"),
    DeviceVariable(localMode, .localMode, .boolean, "false"),
    DeviceVariable("SUPERVISOR_CONNECTIVITY_CHECK", .connectivityCheckEnabled, .boolean, "true"),
    DeviceVariable("SUPERVISOR_LOG_CONTROL", .loggingEnabled, .boolean, "true"),
    DeviceVariable("SUPERVISOR_API_REQUEST_TIMEOUT", .apiRequestTimeout, .integer, "59000"),
    DeviceVariable("SUPERVISOR_DELTA", .delta, .boolean, "false"),
    DeviceVariable("SUPERVISOR_DELTA_REQUEST_TIMEOUT", .deltaRequestTimeout, .integer, "59000"),
    DeviceVariable("SUPERVISOR_DELTA_APPLY_TIMEOUT", .deltaApplyTimeout, .integer, "0"),
    DeviceVariable("SUPERVISOR_DELTA_RETRY_COUNT", .deltaRetryCount, .integer, "30"),
    DeviceVariable("SUPERVISOR_DELTA_RETRY_INTERVAL", .deltaRetryInterval, .integer, "10000"),
    DeviceVariable("SUPERVISOR_DELTA_VERSION", .deltaVersion, .integer, "2"),
    DeviceVariable(overrideLock, .lockOverride, .boolean, "false"),
    DeviceVariable("SUPERVISOR_PERSISTENT_LOGGING", .persistentLogging, .boolean, "false", needsReboot: true),
    DeviceVariable("HOST_FIREWALL_MODE", .firewallMode, .string, "off"),
    DeviceVariable("HOST_DISCOVERABILITY", .hostDiscoverability, .boolean, "true"),
    DeviceVariable("SUPERVISOR_HARDWARE_METRICS", .hardwareMetrics, .boolean, "true"),
    DeviceVariable(vpnControl, nil, .boolean, "true"),
  ]

  private static let names = Set(table.map(\.name) + [legacyOverrideLock])

  /// Whether the agent keeps a variable of this bare name: one of the table, or one that a boot
  /// backend claims.
  public static func isKnown(_ name: String) -> Bool { names.contains(name) || isBootVariable(name) }

  /// Variables of the boot backends (host 4), whatever the device's type. Their bare forms without
  /// `HOST_` are not accepted (host 14, 27).
  public static func isBootVariable(_ name: String) -> Bool {
    if name == "HOST_CONFIGFS_ssdt"
      || name.lowercased() == "host_splash_image" && name.hasPrefix("HOST_SPLASH_")
    {
      return true
    }
    return ["HOST_CONFIG_", "HOST_EXTLINUX_", "HOST_ODMDATA_"].contains {
      name.hasPrefix($0) && name.utf8.count > $0.utf8.count
    }
  }

  /// Whether two texts mean the same (host 3.4).
  public func isEqual(_ a: String, _ b: String) -> Bool {
    switch kind {
    case .boolean: (SettingRule.truth(of: a) ?? false) == (SettingRule.truth(of: b) ?? false)
    case .integer: Self.integer(a) == Self.integer(b)
    case .string: a == b
    }
  }

  /// Whether a text may become the setting's value. An integer has the grammar of the comparison, so
  /// that what was accepted once also compares equal (host 14, 9).
  public func accepts(_ text: String) -> Bool {
    switch kind {
    case .boolean: SettingRule.truth(of: text) != nil
    case .integer: Self.integer(text) != nil
    case .string: true
    }
  }

  /// A whole number in decimal digits, with an optional minus and an optional tail of `.` and zeros.
  static func integer(_ text: String) -> Int? {
    let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard let whole = parts.first, whole.first != "+", parts.count == 1 || parts[1].allSatisfy({ $0 == "0" })
    else { return nil }
    return Int(whole)
  }
}
