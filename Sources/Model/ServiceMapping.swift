import JSON

/// Turns a service of a target state into what its container shall be (target-state 3).
///
/// The composition's keys are read one by one; what the composition leaves open comes from the image
/// where the engine would take it from there (3.10); labels, variables and mounts of features follow
/// (5). The result is in the normal form of `ServiceConfig`.
nonisolated struct ServiceMapping {
  let app: TargetApp
  let release: TargetRelease
  let service: TargetService
  let context: MappingContext
  /// nil when the image is not on the device.
  let image: ImageInfo?
  /// The normalised reference of the image.
  let imageName: String
  var composition: Composition

  init(
    app: TargetApp, release: TargetRelease, service: TargetService, context: MappingContext,
    images: [String: ImageInfo]
  ) throws(ModelError) {
    guard app.appId != 0 else { throw ModelError("No app id for service") }
    self.app = app
    self.release = release
    self.service = service
    self.context = context
    composition = Composition(service.composition, serviceName: service.name)
    do throws(ModelError) {
      imageName = try ImageReference(parsing: composition.text("image") ?? service.image).normalized
    } catch {
      throw error.of("image", service)
    }
    image = images[imageName]
  }

  mutating func map() throws(ModelError) -> Service {
    var config = ServiceConfig(
      image: image?.id ?? imageName, isRunning: composition.boolean("running") ?? service.isRunning)
    config.labels = mapLabels()
    mapProcess(&config)
    try mapHealth(&config)
    mapResources(&config)
    mapSecurity(&config)
    try mapDevices(&config)
    let dependencies = mapNetworks(&config)
    try mapPorts(&config)
    config.volumes = try mapVolumes()
    config.environment = mapEnvironment()
    try addFeatures(to: &config)
    return Service(
      appId: app.appId, appUuid: app.uuid, name: service.name, serviceId: service.serviceId,
      imageId: service.imageId, releaseId: release.id, commit: release.commit, imageName: imageName,
      dependencies: dependencies, config: config)
  }

  /// Identity, then service over composition, then image.
  private mutating func mapLabels() -> [String: String] {
    var labels = LegacyLabels.mapped(composition.map("labels").merging(service.labels) { $1 })
    labels[Network.supervisedLabel] = "true"
    labels[Network.appIdLabel] = "\(app.appId)"
    labels[Volume.appUuidLabel] = app.uuid
    labels["io.balena.service-id"] = "\(service.serviceId)"
    labels["io.balena.service-name"] = service.name
    return labels.merging(LegacyLabels.mapped(image?.labels ?? [:])) { own, _ in own }
  }

  private mutating func mapProcess(_ config: inout ServiceConfig) {
    func orImage(_ text: String?, _ fallback: String?) -> String {
      text.flatMap { $0.isEmpty ? nil : $0 } ?? fallback ?? ""
    }
    config.entrypoint = arguments("entrypoint") ?? image?.entrypoint ?? []
    config.command = arguments("command") ?? image?.cmd ?? []
    // The engine fills in a command where there would be nothing to run (target-state 10, D26).
    if config.command.isEmpty, config.entrypoint.isEmpty { config.command = image?.cmd ?? [] }
    config.user = orImage(composition.text("user"), image?.user)
    config.workingDir = CleanPath.clean(orImage(composition.text("workingDir"), image?.workingDir))
    config.hostname = composition.text("hostname") ?? ""
    config.domainname = composition.text("domainname") ?? ""
    config.macAddress = composition.text("macAddress") ?? ""
    config.tty = composition.isSet("tty") ?? true
    config.stopSignal = orImage(composition.text("stopSignal"), image?.stopSignal)
    if config.stopSignal.isEmpty { config.stopSignal = "SIGTERM" }
    config.initProcess = composition.isSet("init")
    config.restart = restartPolicy()
  }

  private mutating func arguments(_ key: String) -> [String]? {
    if case .string(let text) = composition[key] { return CommandSplitter.split(text) }
    return composition.list(key)
  }

  private mutating func restartPolicy() -> String {
    guard let value = composition["restart"] else { return "always" }
    let text = value.stringValue.map { Self.trimmed($0[...]).lowercased() } ?? ""
    guard ["no", "always", "on-failure", "unless-stopped"].contains(text) else {
      composition.note("Ignoring invalid value of restart: \(value)")
      return "always"
    }
    return text
  }

  private mutating func mapHealth(_ config: inout ServiceConfig) throws(ModelError) {
    if let value = composition["stopGracePeriod"] {
      config.stopGracePeriod = try milliseconds(value, "stopGracePeriod") / 1000
    }
    // The engine takes from the image whatever is not given, so that it is the image's here, too.
    var health = image?.healthcheck ?? .none
    let imageTest = health.test.isEmpty ? Healthcheck.none.test : health.test
    health.test = imageTest
    defer { config.healthcheck = health }
    guard let value = composition["healthcheck"] else { return }
    guard let members = value.objectValue else {
      composition.note("Ignoring invalid value of healthcheck: \(value)")
      return
    }
    var keys: [String: JSON] = [:]
    for (key, value) in members where !value.isNull { keys[Composition.camelCase(key)] = value }
    if keys["disable"]?.boolValue == true {
      health.test = Healthcheck.none.test
      return
    }
    switch keys["test"] {
    case .string(let text): health.test = ["CMD-SHELL", text]
    case .array(let values):
      health.test = values.isEmpty ? imageTest : values.compactMap(Coercions.scalarText)
    case nil: health.test = imageTest
    case let value?:
      composition.noteInvalid("healthcheck.test", value)
      health.test = imageTest
    }
    func nanoseconds(_ key: String, or fallback: Int?) throws(ModelError) -> Int? {
      guard let value = keys[key] else { return fallback }
      let time = try milliseconds(value, "healthcheck.\(key)") * 1_000_000
      return time == 0 ? fallback : time
    }
    health.interval = try nanoseconds("interval", or: health.interval)
    health.timeout = try nanoseconds("timeout", or: health.timeout)
    health.startPeriod = try nanoseconds("startPeriod", or: health.startPeriod)
    if let value = keys["retries"] {
      let retries = Coercions.integer(value)
      if retries == nil { composition.noteInvalid("healthcheck.retries", value) }
      if let retries, retries != 0 { health.retries = retries }
    }
    if let value = keys["disable"], value.boolValue == nil {
      composition.noteInvalid("healthcheck.disable", value)
    }
    composition.noteOthers(
      than: ["test", "interval", "timeout", "startPeriod", "retries", "disable"], in: members,
      of: "healthcheck")
  }

  private func milliseconds(_ value: JSON, _ key: String) throws(ModelError) -> Int {
    do throws(ModelError) { return try Quantities.milliseconds(value) } catch { throw error.of(key, service) }
  }

  private mutating func mapResources(_ config: inout ServiceConfig) {
    if let value = composition["cpus"] {
      if let cpus = Quantities.nanoCpus(value) {
        config.nanoCpus = cpus
      } else {
        composition.note("Ignoring invalid value of cpus: \(value)")
      }
    }
    config.cpuShares = composition.integer("cpuShares") ?? 0
    config.cpuQuota = composition.integer("cpuQuota") ?? 0
    config.cpuset = composition.text("cpuset") ?? ""
    config.memLimit = composition.memory("memLimit") ?? 0
    config.memReservation = composition.memory("memReservation") ?? 0
    config.shmSize = composition.memory("shmSize") ?? 0
    if config.shmSize == 0 { config.shmSize = ServiceConfig.defaultShmSize }
    config.oomKillDisable = composition.isSet("oomKillDisable") ?? false
    config.oomScoreAdj = composition.integer("oomScoreAdj") ?? 0
    config.pidsLimit = max(0, composition.integer("pidsLimit") ?? 0)
    config.ulimits = mapUlimits()
  }

  private mutating func mapUlimits() -> [String: Ulimit] {
    guard let value = composition["ulimits"] else { return [:] }
    var limits: [String: Ulimit] = [:]
    for (name, limit) in value.objectValue ?? [:] where !limit.isNull {
      if let number = Coercions.integer(limit) {
        limits[name] = Ulimit(soft: number, hard: number)
      } else if let soft = Coercions.integer(limit["soft"]), let hard = Coercions.integer(limit["hard"]) {
        limits[name] = Ulimit(soft: soft, hard: hard)
      } else {
        composition.note("Ignoring invalid value of ulimits.\(name): \(limit)")
      }
    }
    if value.objectValue == nil { composition.note("Ignoring invalid value of ulimits: \(value)") }
    return limits
  }

  private mutating func mapSecurity(_ config: inout ServiceConfig) {
    config.privileged = composition.boolean("privileged") ?? false
    config.capAdd = composition.list("capAdd") ?? []
    config.capDrop = composition.list("capDrop") ?? []
    config.groupAdd = composition.list("groupAdd") ?? []
    config.readOnly = composition.isSet("readOnly") ?? false
    config.usernsMode = composition.text("usernsMode") ?? ""
    config.cgroupParent = composition.text("cgroupParent") ?? ""
    config.pid = composition.text("pid") ?? ""
    config.ipc = composition.text("ipc").flatMap { $0.isEmpty ? nil : $0 } ?? "shareable"
    config.tmpfs = composition.textOrList("tmpfs") ?? []

    let options = composition.list("securityOpt") ?? []
    let refused = options.filter(Self.isSecurityLabel)
    config.securityOpt = options.filter { !Self.isSecurityLabel($0) }
    if !refused.isEmpty {
      composition.note("Ignoring unsupported security options: \(refused.joined(separator: ", "))")
    }

    if case .array = composition["sysctls"] {
      for entry in composition.list("sysctls") ?? [] {
        let parts = entry.split(separator: "=", omittingEmptySubsequences: false)
        config.sysctls[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
      }
    } else {
      config.sysctls = composition.map("sysctls")
    }
  }

  private static func isSecurityLabel(_ option: String) -> Bool {
    let needle = Array("label=".utf8)
    var rest = Array(option.utf8)[...]
    while rest.count >= needle.count {
      if rest.starts(with: needle) { return true }
      rest = rest.dropFirst()
    }
    return false
  }

  private mutating func mapDevices(_ config: inout ServiceConfig) throws(ModelError) {
    guard let value = composition["devices"] else { return }
    guard let entries = value.arrayValue else {
      composition.note("Ignoring invalid value of devices: \(value)")
      return
    }
    for entry in entries {
      guard let text = entry.stringValue else {
        throw ModelError("Could not parse device definition: \(entry)").of("devices", service)
      }
      let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      config.devices.append(
        Device(
          pathOnHost: parts[0], pathInContainer: parts.count > 1 && !parts[1].isEmpty ? parts[1] : parts[0],
          permissions: parts.count > 2 && !parts[2].isEmpty ? parts[2] : "rwm"))
    }
  }

  private mutating func mapPorts(_ config: inout ServiceConfig) throws(ModelError) {
    guard let value = composition["ports"] else { return }
    guard let entries = value.arrayValue else {
      composition.note("Ignoring invalid value of ports: \(value)")
      return
    }
    var ranges: [PortRange] = []
    for entry in entries {
      let text: String? =
        switch entry {
        case .string(let text): text
        case .number(let number): number.text
        case .object(let long): shortPort(long)
        default: nil
        }
      guard let text else {
        composition.note("Ignoring invalid port definition \(entry)")
        continue
      }
      do throws(ModelError) { ranges.append(try PortRange(parsing: text)) } catch {
        throw error.of("ports", service)
      }
    }
    config.ports = PortRange.normalized(ranges)
  }

  /// `{target, published, protocol, host_ip}` in the short form (target-state 10, D3).
  private mutating func shortPort(_ long: JSONObject) -> String? {
    var keys: [String: JSON] = [:]
    for (key, value) in long where !value.isNull { keys[Composition.camelCase(key)] = value }
    guard let target = keys["target"].flatMap(Coercions.scalarText) else { return nil }
    composition.noteOthers(than: ["target", "published", "protocol", "hostIp"], in: long, of: "ports")
    let published = keys["published"].flatMap(Coercions.scalarText) ?? target
    let host = keys["hostIp"]?.stringValue.flatMap { $0.isEmpty ? nil : $0 + ":" } ?? ""
    return "\(host)\(published):\(target)/\(keys["protocol"]?.stringValue ?? "tcp")"
  }
}

nonisolated extension ModelError {
  /// The error with where it stands: people read it in a log of many services.
  fileprivate func of(_ key: String, _ service: TargetService) -> ModelError {
    ModelError("\(message) (\(key) of service \(service.name))")
  }
}
