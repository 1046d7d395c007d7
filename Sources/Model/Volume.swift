import JSON

/// A named volume of an app.
public nonisolated struct Volume: Sendable, Hashable {
  public var appId: Int
  public var appUuid: String?
  /// Without the app's prefix.
  public var name: String
  public var config: VolumeConfig

  public init(appId: Int, appUuid: String?, name: String, config: VolumeConfig) {
    self.appId = appId
    self.appUuid = appUuid
    self.name = name
    self.config = config
  }

  /// `<appId>_<name>`
  public var engineName: String { "\(appId)_\(name)" }
}

/// What is compared of a volume (target-state 6.4).
public nonisolated struct VolumeConfig: Sendable, Hashable {
  public var driver = "local"
  public var options: [String: String] = [:]
  /// The user's labels alone, without those that the agent adds.
  public var labels: [String: String] = [:]

  public init() {}
}

nonisolated extension Volume {
  static let appUuidLabel = "io.balena.app-uuid"

  /// The body of `POST /volumes/create`.
  public var createRequest: JSON {
    var labels = config.labels
    labels[Network.supervisedLabel] = "true"
    labels[Self.appUuidLabel] = appUuid
    return [
      "Name": .string(engineName),
      "Driver": .string(config.driver),
      "DriverOpts": JSON(config.options),
      "Labels": JSON(labels),
    ]
  }

  /// A volume of the engine, from an element of `GET /volumes` or an inspect answer.
  ///
  /// - Returns: nil unless the name is exactly `<appId>_<name>`: the engine's other volumes are
  ///   none of our business (target-state 10, D12).
  public static func reading(_ inspect: JSON) -> Volume? {
    guard let engineName = inspect["Name"]?.stringValue, let underscore = engineName.firstIndex(of: "_"),
      let appId = Int(engineName[..<underscore])
    else { return nil }
    let labels = LegacyLabels.mapped(inspect["Labels"]?.stringMap ?? [:])
    var config = VolumeConfig()
    config.driver = inspect["Driver"]?.stringValue ?? "local"
    config.options = inspect["Options"]?.stringMap ?? [:]
    config.labels = userLabels(labels)
    let name = String(engineName[underscore...].dropFirst())
    let volume = Volume(appId: appId, appUuid: labels[appUuidLabel], name: name, config: config)
    return !name.isEmpty && appId >= 0 && volume.engineName == engineName ? volume : nil
  }

  /// The fields in which this volume of the engine differs from `target`.
  public func differences(to target: Volume) -> [Difference] {
    var found = DifferenceList()
    found.exact("driver", config.driver, target.config.driver)
    found.map("options", config.options, target.config.options)
    found.map("labels", config.labels, target.config.labels)
    return found.all
  }

  static func userLabels(_ labels: [String: String]) -> [String: String] {
    var labels = LegacyLabels.mapped(labels)
    labels[Network.supervisedLabel] = nil
    labels[appUuidLabel] = nil
    return labels
  }
}
