import JSON

/// Device configuration of the target as values: names, effective target, current values, and what
/// has to change (host 3).
public nonisolated enum DeviceConfiguration {
  private static let prefixes = ["BALENA_", "RESIN_"]

  /// Bare names of a target's variables: prefixes stripped, `BALENA_` before `RESIN_` before none, unknown
  /// names dropped (host 3.1).
  public static func bareNames(_ variables: [String: String]) -> [String: String] {
    var ranked: [String: (rank: Int, value: String)] = [:]
    for (name, value) in variables {
      let rank = prefixes.firstIndex { name.hasPrefix($0) } ?? prefixes.count
      let bare = rank < prefixes.count ? String(name.dropFirst(prefixes[rank].count)) : name
      guard DeviceVariable.isKnown(bare) else { continue }
      if let known = ranked[bare], known.rank < rank { continue }
      ranked[bare] = (rank, value)
    }
    var bare = ranked.mapValues(\.value)
    if let legacy = bare[DeviceVariable.legacyOverrideLock] { bare[DeviceVariable.overrideLock] = legacy }
    return bare
  }

  /// The target with defaults (host 3.1).
  ///
  /// - Parameter stored: bare names, as stored.
  public static func effectiveTarget(_ stored: [String: String], isUnmanaged: Bool) -> [String: String] {
    var target = stored
    if isUnmanaged, target[DeviceVariable.localMode] == nil { target[DeviceVariable.localMode] = "true" }
    for variable in DeviceVariable.table where target[variable.name] == nil {
      target[variable.name] = variable.defaultText
    }
    return target
  }

  /// What a target changes of the agent's settings.
  public struct Change: Sendable, Hashable {
    /// By setting: the text to set.
    public var settings: [SettingKey: String] = [:]
    /// The same by variable, for people.
    public var variables: [String: String] = [:]
    /// Those settings that need a reboot.
    public var rebooting: [SettingKey: String] = [:]
    /// One line for each variable whose target value is invalid.
    public var warnings: [String] = []

    public init() {}

    public var isEmpty: Bool { settings.isEmpty }
  }

  /// Compares the agent's settings with the effective target (host 3.4).
  ///
  /// - Parameter current: `Settings.currentVariables`.
  public static func change(from current: [String: String], to target: [String: String]) -> Change {
    var change = Change()
    for variable in DeviceVariable.table {
      guard let key = variable.key else { continue }
      let now = current[variable.name] ?? ""
      let wanted = target[variable.name] ?? variable.defaultText
      if variable.isEqual(now, wanted) { continue }
      var text = wanted
      if !variable.accepts(wanted) {
        if variable.isEqual(now, variable.defaultText) { continue }
        text = variable.defaultText
        change.warnings.append(
          "Warning: Ignoring invalid device configuration value for \(key.name), value: '\(wanted)'. Falling back to default (\(text))"
        )
      }
      change.settings[key] = text
      change.variables[variable.name] = text
      if variable.needsReboot { change.rebooting[key] = text }
    }
    return change
  }
}

extension Settings {
  /// Current values of the agent's variables as texts; empty for an unset setting (host 3.3).
  public var currentVariables: [String: String] {
    var current: [String: String] = [:]
    for variable in DeviceVariable.table {
      guard let key = variable.key else { continue }
      let value = (try? value(key)) ?? key.defaultValue
      current[variable.name] = value.map(SettingRule.text) ?? ""
    }
    return current
  }

  /// Sets what a target changes.
  public func apply(_ change: DeviceConfiguration.Change) async throws(SettingError) {
    if !change.isEmpty { try await set(change.settings.mapValues(JSON.string)) }
  }
}
