import JSON

// What the agent adds to a service: variables, and mounts and devices by label (target-state 5).
nonisolated extension ServiceMapping {
  /// Service over composition over the agent's defaults over the image. Two names are the agent's
  /// alone and are added when the container is created.
  mutating func mapEnvironment() -> [String: String] {
    var environment = ServiceConfig.environmentMap(image?.env ?? [])
    environment.merge(agentEnvironment) { $1 }
    for (name, value) in composition.map("environment") {
      if name.utf8.contains(UInt8(ascii: "=")) {
        // What stands before the first `=` is the name, as the engine will read it.
        environment.merge(ServiceConfig.environmentMap(["\(name)=\(value)"])) { $1 }
      } else {
        environment[name] = value
      }
    }
    environment.merge(service.environment) { $1 }
    environment["BALENA_DEVICE_NAME_AT_INIT"] = nil
    environment["RESIN_DEVICE_NAME_AT_INIT"] = nil
    return environment
  }

  private var agentEnvironment: [String: String] {
    // Names are spelled out: literals cost no memory, and there are hundreds of services.
    var environment = ["BALENA": "1", "RESIN": "1"]
    let values = [
      ("BALENA_APP_ID", "RESIN_APP_ID", "\(app.appId)"), ("BALENA_APP_UUID", "RESIN_APP_UUID", app.uuid),
      ("BALENA_APP_NAME", "RESIN_APP_NAME", app.name),
      ("BALENA_SERVICE_NAME", "RESIN_SERVICE_NAME", service.name),
      ("BALENA_DEVICE_UUID", "RESIN_DEVICE_UUID", context.deviceUuid),
      ("BALENA_DEVICE_TYPE", "RESIN_DEVICE_TYPE", context.deviceType),
      ("BALENA_DEVICE_ARCH", "RESIN_DEVICE_ARCH", context.deviceArch),
      ("BALENA_HOST_OS_VERSION", "RESIN_HOST_OS_VERSION", context.osVersion),
      ("BALENA_APP_LOCK_PATH", "RESIN_APP_LOCK_PATH", "/tmp/balena/updates.lock"),
    ]
    for (balena, resin, value) in values {
      environment[balena] = value
      environment[resin] = value
    }
    environment["BALENA_SERVICE_HANDOVER_COMPLETE_PATH"] = "/tmp/balena/handover-complete"
    environment["RESIN_SERVICE_KILL_ME_PATH"] = "/tmp/balena/handover-complete"
    environment["USER"] = "root"
    return environment
  }

  func addFeatures(to config: inout ServiceConfig) throws(ModelError) {
    func has(_ feature: String) -> Bool {
      config.labels["io.balena.features." + feature].map { Coercions.isTruthy(.string($0)) } ?? false
    }
    func bind(_ path: String, to target: String? = nil, mode: String = "") {
      config.volumes.append(.bind("\(path):\(target ?? path)\(mode)"))
    }
    if has("journal-logs") {
      bind("/var/log/journal", mode: ":ro")
      bind("/run/log/journal", mode: ":ro")
      bind("/etc/machine-id", mode: ":ro")
    }
    if has("dbus") { bind("/run/dbus", to: "/host/run/dbus") }
    if has("kernel-modules"), context.hasHostModules { bind("/lib/modules") }
    if has("firmware"), context.hasHostFirmware { bind("/lib/firmware") }
    if has("sysfs") { bind("/sys") }
    if has("procfs") { bind("/proc") }
    if has("balena-socket") { addEngineSocket(to: &config) }
    if has("balena-api") {
      config.setBoth("API_KEY", context.deviceApiKey)
      config.setBoth("API_URL", context.apiEndpoint)
    }
    if has("supervisor-api") { try addSupervisorApi(to: &config) }
    if has("gpu") { config.deviceRequests.append(.gpu) }
    if has("host-os.board-rev") {
      config.setBoth("HOST_OS_BOARD_REV", context.boardRev)
      config.setBoth("HOST_OS_BUILD", context.boardRev)
    }
    if has("extra-firmware") {
      config.volumes.append(
        .mount(Mount(type: "volume", source: ExtraFirmwareVolume.name, target: "/extra-firmware")))
    }
    var seen: Set<VolumeMount> = []
    config.volumes = config.volumes.filter { seen.insert($0).inserted }
  }

  private func addEngineSocket(to config: inout ServiceConfig) {
    let socket = context.engineSocketPath
    let inContainer = "/host/run/balena-engine.sock"
    var targets = [inContainer]
    for path in [socket, "/var/run/balena.sock"] where !targets.contains(path) { targets.append(path) }
    for target in targets {
      config.volumes.append(.mount(Mount(type: "bind", source: socket, target: target)))
    }
    if config.environment["DOCKER_HOST"] == nil {
      config.environment["DOCKER_HOST"] = "unix://" + inContainer
    }
  }

  private func addSupervisorApi(to config: inout ServiceConfig) throws(ModelError) {
    let key = MappingContext.ServiceKey(appId: app.appId, serviceName: service.name)
    guard let apiKey = context.supervisorApiKeys[key] else {
      throw ModelError("No API key for service \(service.name) of app \(app.appId)")
    }
    let host = config.networkMode == "host" ? "127.0.0.1" : context.supervisorHost
    config.setBoth("SUPERVISOR_API_KEY", apiKey)
    config.setBoth("SUPERVISOR_PORT", "\(context.listenPort)")
    config.setBoth("SUPERVISOR_HOST", host)
    config.setBoth("SUPERVISOR_ADDRESS", "http://\(host):\(context.listenPort)")
    if config.ownsNetwork { config.networks[SupervisorNetwork.name] = NetworkEndpoint() }
  }
}

nonisolated extension ServiceConfig {
  /// Of a target: whether the container has a network of its own, and so can join others.
  var ownsNetwork: Bool { !["host", "none"].contains(networkMode) && !networkMode.hasPrefix("service:") }

  /// Sets a feature's variable under its present and its old name.
  fileprivate mutating func setBoth(_ name: String, _ value: String?) {
    guard let value else { return }
    environment["RESIN_" + name] = value
    environment["BALENA_" + name] = value
  }
}

/// The volume of firmware that is not the host's own (target-state 6.6).
public nonisolated enum ExtraFirmwareVolume {
  public static let name = "extra-firmware"
  /// The body of `POST /volumes/create`.
  public static var createRequest: JSON { ["Name": .string(name)] }
}
