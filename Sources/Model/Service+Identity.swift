import JSON

/// How the images and containers of a service's update are ordered (state-engine 4).
public nonisolated enum UpdateStrategy: String, Sendable, Hashable, CaseIterable {
  case downloadThenKill = "download-then-kill"
  case killThenDownload = "kill-then-download"
  case deleteThenDownload = "delete-then-download"
  case handOver = "hand-over"
}

// What labels, names and mounts say about a service (target-state 4.1 and 5, state-engine 3.3).
nonisolated extension Service {
  /// `<service>_<imageId>_<releaseId>_<commit>`.
  public var containerName: String {
    "\(name)_\(imageId)_\(releaseId)" + (commit.map { "_" + $0 } ?? "")
  }

  /// Label `io.balena.update.strategy`; unknown values are the default.
  public var updateStrategy: UpdateStrategy {
    config.labels["io.balena.update.strategy"].flatMap(UpdateStrategy.init(rawValue:)) ?? .downloadThenKill
  }

  /// Label `io.balena.update.handover-timeout`, a positive number of milliseconds; else a minute.
  public var handoverTimeout: Duration {
    let label = config.labels["io.balena.update.handover-timeout"]
    let milliseconds = label.flatMap { Coercions.positiveInteger(.string($0)) } ?? 60_000
    return .milliseconds(milliseconds)
  }

  /// Label `io.balena.update.requires-reboot`.
  public var requiresReboot: Bool {
    config.labels["io.balena.update.requires-reboot"].map { Coercions.isTruthy(.string($0)) } ?? false
  }

  /// Whether label `io.balena.features.<name>` is truthy.
  public func hasFeature(_ name: String) -> Bool {
    config.labels["io.balena.features." + name].map { Coercions.isTruthy(.string($0)) } ?? false
  }

  /// The engine's name of the network mode's network, when that is one of the app's.
  public var mainNetwork: String? {
    let prefixes = [appUuid.map { $0 + "_" }, "\(appId)_"].compactMap(\.self)
    return prefixes.contains { config.networkMode.hasPrefix($0) } ? config.networkMode : nil
  }

  /// The service whose network namespace a target shares.
  public var networkService: String? {
    config.networkMode.hasPrefix("service:") ? String(config.networkMode.dropFirst(8)) : nil
  }

  /// Whether the service is attached to the network, by either of its engine names.
  public func uses(_ network: Network) -> Bool {
    if let uuid = network.appUuid, config.networks["\(uuid)_\(network.name)"] != nil { return true }
    return config.networks["\(network.appId)_\(network.name)"] != nil
  }

  /// Whether the service mounts the volume by name.
  public func uses(_ volume: Volume) -> Bool {
    let source = volume.engineName
    return config.volumes.contains { entry in
      switch entry {
      case .anonymous: false
      case .bind(let text): text.hasPrefix(source + ":")
      case .mount(let mount): mount.type == "volume" && mount.source == source
      }
    }
  }
}
