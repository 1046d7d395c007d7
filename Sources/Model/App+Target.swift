import JSON

// A target app, mapped to what the engine shall run (target-state 1.7, 3 and 6).
nonisolated extension App {
  /// - Parameters:
  ///   - images: what the engine knows of the app's images, by normalised reference; one that is
  ///     missing is not on the device.
  /// - Returns: the app, and one line for each thing of a composition that was passed over.
  /// - Throws: for compositions that cannot be understood (target-state 3.1).
  public static func target(
    from target: TargetApp, context: MappingContext, images: [String: ImageInfo]
  ) throws(ModelError) -> (App, notes: [String]) {
    if let problem = target.problem { throw ModelError(problem) }
    var app = App(identityOf: target)
    var notes: [String] = []
    if let release = target.release {
      for service in release.services where target.appliesService(service) {
        var mapping = try ServiceMapping(
          app: target, release: release, service: service, context: context, images: images)
        app.services.append(try mapping.map())
        notes += mapping.composition.notes
      }
      for (name, value) in release.networks {
        app.networks.append(
          Network(
            appId: target.appId, appUuid: target.uuid, name: name,
            config: NetworkConfig(composition: value, appId: target.appId, name: name, notes: &notes)))
      }
      for (name, value) in release.volumes {
        app.volumes.append(
          Volume(
            appId: target.appId, appUuid: target.uuid, name: name,
            config: VolumeConfig(composition: value, name: name, notes: &notes)))
      }
    }
    if !app.networks.contains(where: { $0.name == "default" }) {
      var config = NetworkConfig(composition: [:], appId: target.appId, name: "default", notes: &notes)
      config.isConfigOnly = app.services.allSatisfy { $0.config.networkMode == "host" }
      app.networks.append(Network(appId: target.appId, appUuid: target.uuid, name: "default", config: config))
    }
    return (app, notes)
  }
}

nonisolated extension App {
  /// A target app that cannot be mapped: rejected, and without anything that could be acted upon.
  public static func unmapped(_ target: TargetApp, because error: ModelError) -> App {
    var app = App(identityOf: target)
    app.isRejected = true
    app.problem = error.message
    return app
  }

  private init(identityOf target: TargetApp) {
    self.init(
      appId: target.appId, uuid: target.uuid, name: target.name, commit: target.release?.commit,
      isHost: target.isHost, isRejected: target.isRejected, source: target.source)
  }
}

nonisolated extension TargetApp {
  /// The uuids under which the agent itself is released, by architecture.
  private static let supervisorUuids: Set<String> = [
    "52e35121417640b1b28a680504e4039b", "900de4f3cbac4b9bbd232885a35e407b",
    "2e66a95795c149959c69472a8c2f92b8", "531b357e155c480cbec0fdd33041a1f5",
    "6822565f766e413e96d9bebe2227cdcc",
  ]

  /// Whether the service is the agent itself: reported as running, never applied.
  public func isSupervisor(_ service: TargetService) -> Bool {
    Self.supervisorUuids.contains(uuid)
      && ["main", "balena-supervisor", "core"].contains(service.name)
  }

  /// Whether a service is one that the agent runs: not itself, and of the host's app only what is
  /// a service in the data store.
  public func appliesService(_ service: TargetService) -> Bool {
    if isSupervisor(service) { return false }
    guard isHost else { return true }
    let labels = LegacyLabels.mapped(service.labels)
    return (labels["io.balena.image.class"] ?? "service") == "service"
      && (labels["io.balena.image.store"] ?? "data") == "data"
  }

  /// Normalised references of all images that the app's services run; what is none is left out.
  public var imageNames: [String] {
    (release?.services ?? []).compactMap { service in
      var composition = Composition(service.composition, serviceName: service.name)
      return try? ImageReference(parsing: composition.text("image") ?? service.image).normalized
    }
  }

  /// The names of the services that need a key in `MappingContext.supervisorApiKeys`.
  public func servicesWithSupervisorApi(images: [String: ImageInfo]) -> [String] {
    (release?.services ?? []).filter { service in
      guard appliesService(service) else { return false }
      var composition = Composition(service.composition, serviceName: service.name)
      let reference = try? ImageReference(parsing: composition.text("image") ?? service.image)
      let image = reference.flatMap { images[$0.normalized] }
      let name = "io.balena.features.supervisor-api"
      let own = LegacyLabels.mapped(composition.map("labels").merging(service.labels) { $1 })
      let label = own[name] ?? LegacyLabels.mapped(image?.labels ?? [:])[name]
      return Coercions.isTruthy(label.map(JSON.string))
    }
    .map(\.name)
  }
}

nonisolated extension NetworkConfig {
  /// - Parameter composition: an entry of a release's `networks`; keys are in snake case only.
  init(composition: JSON, appId: Int, name: String, notes: inout [String]) {
    driver = Self.text(composition["driver"]) ?? "bridge"
    options = Self.textMap(composition["driver_opts"])
    enableIPv6 = Coercions.isSet(composition["enable_ipv6"])
    isInternal = Coercions.isSet(composition["internal"])
    isConfigOnly = Coercions.isSet(composition["config_only"])
    let ipam = composition["ipam"]
    self.ipam = IPAM(
      driver: Self.text(ipam?["driver"]) ?? "default", options: Self.textMap(ipam?["options"]),
      config: (ipam?["config"]?.arrayValue ?? []).map { entry in
        Pool(
          subnet: Self.text(entry["subnet"]) ?? "", gateway: Self.text(entry["gateway"]) ?? "",
          ipRange: Self.text(entry["ip_range"]) ?? "", auxAddresses: Self.textMap(entry["aux_addresses"]))
      })
    if self.ipam.config.contains(where: { $0.subnet.isEmpty || $0.gateway.isEmpty }) {
      notes.append(
        "Network IPAM config entries must have both a subnet and gateway defined. Your network might not work properly otherwise. (network \(name))"
      )
    }
    labels = LegacyLabels.mapped(Self.textMap(composition["labels"]))
    labels[Network.supervisedLabel] = nil
    labels[Network.appIdLabel] = "\(appId)"
    if !self.ipam.config.isEmpty { labels[Network.ipamLabel] = "true" }
    let known: Set<String> = [
      "driver", "driver_opts", "ipam", "enable_ipv6", "internal", "labels", "config_only",
    ]
    for key in composition.objectValue?.keys ?? [] where !known.contains(key) {
      notes.append("Ignoring unsupported field \(key) of network \(name)")
    }
  }

  static func text(_ value: JSON?) -> String? {
    value.flatMap(Coercions.scalarText).flatMap { $0.isEmpty ? nil : $0 }
  }

  static func textMap(_ value: JSON?) -> [String: String] {
    var map: [String: String] = [:]
    for (key, value) in value?.objectValue ?? [:] { map[key] = Coercions.scalarText(value) ?? "" }
    return map
  }
}

nonisolated extension VolumeConfig {
  /// - Parameter composition: an entry of a release's `volumes`; keys are in snake case only.
  init(composition: JSON, name: String, notes: inout [String]) {
    driver = NetworkConfig.text(composition["driver"]) ?? "local"
    options = NetworkConfig.textMap(composition["driver_opts"])
    labels = Volume.userLabels(NetworkConfig.textMap(composition["labels"]))
    let known: Set<String> = ["driver", "driver_opts", "labels"]
    for key in composition.objectValue?.keys ?? [] where !known.contains(key) {
      notes.append("Ignoring unsupported field \(key) of volume \(name)")
    }
  }
}
