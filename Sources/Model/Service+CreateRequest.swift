import JSON

// A target service as the engine wants to be told (target-state 3.3, 3.6 and 3.12).
nonisolated extension Service {
  /// The body of `POST /containers/create?name=<containerName>`.
  ///
  /// - Parameters:
  ///   - containerIds: the current container id of each service of the app.
  ///   - deviceName: what the container's `…_DEVICE_NAME_AT_INIT` variables say.
  /// - Throws: when the device's name does not fit into a variable, the service whose network is
  ///   shared has no container, or a port cannot exist.
  public func createRequest(containerIds: [String: String], deviceName: String) throws(ModelError) -> JSON {
    guard !deviceName.utf8.contains(UInt8(ascii: "\n")) else {
      throw ModelError(
        "The device name contains a newline, which is unsupported by balena. Please fix the device name")
    }
    var networkMode = config.networkMode
    if let other = networkService {
      guard let id = containerIds[other] else {
        throw ModelError("No container for network_mode: 'service: \(other)'")
      }
      networkMode = "container:" + id
    }
    let (exposedPorts, portBindings) = try enginePorts()

    var body = JSONObject()
    body["Tty"] = .bool(config.tty)
    body["Cmd"] = JSON(config.command)
    body["Entrypoint"] = JSON(config.entrypoint)
    body["Volumes"] = .object(anonymousVolumes)
    body["ExposedPorts"] = .object(exposedPorts)
    body["Env"] = JSON(engineEnvironment(deviceName: deviceName))
    body["Image"] = .string(config.image)
    body["Labels"] = JSON(config.labels)
    body["NetworkingConfig"] = ["EndpointsConfig": .object(mainEndpoint)]
    body["StopSignal"] = .string(config.stopSignal)
    body["StopTimeout"] = .int(config.stopGracePeriod)
    body["Domainname"] = .string(config.domainname)
    body["Hostname"] = .string(config.hostname)
    body["MacAddress"] = .string(config.macAddress)
    body["User"] = .string(config.user)
    body["WorkingDir"] = .string(config.workingDir)
    body["Healthcheck"] = config.healthcheck.json
    body["HostConfig"] = .object(hostConfig(networkMode: networkMode, portBindings: portBindings))
    return .object(body)
  }

  /// The networks joined between creation and start, with the `EndpointConfig` of the connect call.
  public var networksToConnect: [(name: String, endpoint: JSON)] {
    config.networks.sorted { $0.key < $1.key }
      .filter { $0.key != config.networkMode }
      .map { ($0.key, $0.value.json) }
  }

  private var mainEndpoint: JSONObject {
    guard let endpoint = config.networks[config.networkMode] else { return [:] }
    return [config.networkMode: endpoint.json]
  }

  private var anonymousVolumes: JSONObject {
    var paths = JSONObject()
    for case .anonymous(let path) in config.volumes { paths[path] = [:] }
    return paths
  }

  private func engineEnvironment(deviceName: String) -> [String] {
    ["RESIN_DEVICE_NAME_AT_INIT=\(deviceName)", "BALENA_DEVICE_NAME_AT_INIT=\(deviceName)"]
      + config.environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
  }

  private func enginePorts() throws(ModelError) -> (exposed: JSONObject, bindings: JSONObject) {
    var bindings: [String: [JSON]] = [:]
    var order: [String] = []
    for range in config.ports {
      try range.checkForCreation()
      for offset in 0...(range.containerPorts.last - range.containerPorts.first) {
        let key = "\(range.containerPorts.first + offset)/\(range.transport)"
        if bindings[key] == nil { order.append(key) }
        bindings[key, default: []].append([
          "HostIp": .string(range.hostIp), "HostPort": .string("\(range.hostPorts.first + offset)"),
        ])
      }
    }
    return (
      JSONObject(order.map { ($0, [:]) }), JSONObject(order.map { ($0, .array(bindings[$0] ?? [])) })
    )
  }

  private func hostConfig(networkMode: String, portBindings: JSONObject) -> JSONObject {
    var host = JSONObject()
    host["CapAdd"] = JSON(config.capAdd)
    host["CapDrop"] = JSON(config.capDrop)
    host["Binds"] = .array(
      config.volumes.compactMap { if case .bind(let text) = $0 { .string(text) } else { nil } })
    host["Mounts"] = .array(
      config.volumes.compactMap { if case .mount(let mount) = $0 { mount.json } else { nil } })
    host["CgroupParent"] = .string(config.cgroupParent)
    host["Devices"] = .array(config.devices.map(\.json))
    host["DeviceRequests"] = .array(config.deviceRequests.map(\.json))
    host["Dns"] = JSON(config.dns)
    host["DnsOptions"] = JSON(config.dnsOpt)
    host["DnsSearch"] = JSON(config.dnsSearch)
    host["PortBindings"] = .object(portBindings)
    host["ExtraHosts"] = JSON(config.extraHosts)
    host["GroupAdd"] = JSON(config.groupAdd)
    host["NetworkMode"] = .string(networkMode)
    host["PidMode"] = .string(config.pid)
    host["PidsLimit"] = .int(config.pidsLimit)
    host["SecurityOpt"] = JSON(config.securityOpt)
    host["Sysctls"] = JSON(config.sysctls)
    host["Ulimits"] = .array(
      config.ulimits.sorted { $0.key < $1.key }.map { name, limit in
        ["Name": .string(name), "Soft": .int(limit.soft), "Hard": .int(limit.hard)]
      })
    host["RestartPolicy"] = ["Name": .string(config.restart), "MaximumRetryCount": 0]
    host["CpuShares"] = .int(config.cpuShares)
    host["CpuQuota"] = .int(config.cpuQuota)
    host["CpusetCpus"] = .string(config.cpuset)
    host["Memory"] = .int(config.memLimit)
    host["MemoryReservation"] = .int(config.memReservation)
    host["OomKillDisable"] = .bool(config.oomKillDisable ?? false)
    host["OomScoreAdj"] = .int(config.oomScoreAdj)
    host["Privileged"] = .bool(config.privileged)
    host["ReadonlyRootfs"] = .bool(config.readOnly)
    host["ShmSize"] = .int(config.shmSize)
    host["Tmpfs"] = .object(JSONObject(config.tmpfs.map { ($0, "") }))
    host["UsernsMode"] = .string(config.usernsMode)
    host["NanoCpus"] = .int(config.nanoCpus)
    host["IpcMode"] = .string(config.ipc)
    host["Init"] = config.initProcess.map(JSON.bool)
    return host
  }
}
