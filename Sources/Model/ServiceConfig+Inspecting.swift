import JSON

// Every compared field of a container (target-state 4.3); missing and `null` read as the default.
nonisolated extension ServiceConfig {
  init(inspecting inspect: JSON, id: String, labels: [String: String]) {
    let settings = inspect["Config"]?.objectValue ?? [:]
    let host = inspect["HostConfig"]?.objectValue ?? [:]
    self.init(
      image: settings["Image"]?.stringValue ?? "",
      isRunning: inspect["State"]?["Running"]?.boolValue ?? false,
      labels: labels, environment: Self.environment(settings["Env"]?.stringList ?? []))
    readSettings(settings, id: id)
    readHost(host)
    networks = Self.networks(inspect["NetworkSettings"]?["Networks"], id: id)
    volumes = Self.volumes(settings: settings, host: host)
  }

  private mutating func readSettings(_ settings: JSONObject, id: String) {
    func text(_ key: String) -> String { settings[key]?.stringValue ?? "" }
    command = settings["Cmd"]?.stringList ?? []
    entrypoint = settings["Entrypoint"]?.stringList ?? []
    user = text("User")
    workingDir = CleanPath.clean(text("WorkingDir"))
    let name = text("Hostname")
    hostname = name == id.prefix(12) ? "" : name
    domainname = text("Domainname")
    macAddress = text("MacAddress")
    tty = settings["Tty"]?.boolValue ?? false
    stopSignal = text("StopSignal").isEmpty ? "SIGTERM" : text("StopSignal")
    stopGracePeriod = settings["StopTimeout"]?.intValue ?? 10
    healthcheck = Healthcheck(inspecting: settings["Healthcheck"])
  }

  private mutating func readHost(_ host: JSONObject) {
    func text(_ key: String) -> String { host[key]?.stringValue ?? "" }
    func list(_ key: String) -> [String] { host[key]?.stringList ?? [] }
    func number(_ key: String) -> Int { host[key]?.intValue ?? 0 }
    func flag(_ key: String) -> Bool { host[key]?.boolValue ?? false }
    networkMode = text("NetworkMode")
    ports = Self.ports(host["PortBindings"]?.objectValue ?? [:])
    dns = list("Dns")
    dnsSearch = list("DnsSearch")
    dnsOpt = list("DnsOptions")
    extraHosts = list("ExtraHosts")
    tmpfs = host["Tmpfs"]?.objectValue?.keys ?? []
    readOnly = flag("ReadonlyRootfs")
    privileged = flag("Privileged")
    capAdd = list("CapAdd")
    capDrop = list("CapDrop")
    securityOpt = list("SecurityOpt").filter { !$0.hasPrefix("label=") }
    groupAdd = list("GroupAdd")
    devices = (host["Devices"]?.arrayValue ?? []).map(Device.init(inspecting:))
    deviceRequests = (host["DeviceRequests"]?.arrayValue ?? []).map(DeviceRequest.init(inspecting:))
    sysctls = host["Sysctls"]?.stringMap ?? [:]
    for limit in host["Ulimits"]?.arrayValue ?? [] {
      guard let name = limit["Name"]?.stringValue else { continue }
      ulimits[name] = Ulimit(soft: limit["Soft"]?.intValue ?? 0, hard: limit["Hard"]?.intValue ?? 0)
    }
    initProcess = host["Init"]?.boolValue
    ipc = text("IpcMode")
    pid = text("PidMode")
    usernsMode = text("UsernsMode")
    cgroupParent = text("CgroupParent")
    restart = host["RestartPolicy"]?["Name"]?.stringValue ?? "always"
    cpuShares = number("CpuShares")
    cpuQuota = number("CpuQuota")
    cpuset = text("CpusetCpus")
    memLimit = number("Memory")
    memReservation = number("MemoryReservation")
    shmSize = number("ShmSize")
    oomKillDisable = host["OomKillDisable"]?.boolValue
    oomScoreAdj = number("OomScoreAdj")
    pidsLimit = max(0, number("PidsLimit"))
  }

  private static func environment(_ entries: [String]) -> [String: String] {
    var map = environmentMap(entries)
    map["RESIN_DEVICE_NAME_AT_INIT"] = nil
    map["BALENA_DEVICE_NAME_AT_INIT"] = nil
    return map
  }

  /// `NAME=value` entries as a map; entries without `=` name nothing.
  static func environmentMap(_ entries: [String]) -> [String: String] {
    var map: [String: String] = [:]
    for entry in entries {
      guard let equals = entry.firstIndex(of: "=") else { continue }
      map[String(entry[..<equals])] = String(entry[equals...].dropFirst())
    }
    return map
  }

  private static func ports(_ bindings: JSONObject) -> [PortRange] {
    var ports: [PortRange] = []
    for (key, value) in bindings {
      let parts = key.split(separator: "/", maxSplits: 1)
      guard let inside = parts.first.flatMap({ Int($0) }) else { continue }
      let transport = parts.count == 2 ? String(parts[1]) : "tcp"
      for binding in value.arrayValue ?? [] {
        let outside = binding["HostPort"]?.stringValue.flatMap { Int($0) } ?? 0
        ports.append(
          PortRange(
            transport: transport, hostIp: binding["HostIp"]?.stringValue ?? "",
            hostPorts: .init(first: outside, last: outside),
            containerPorts: .init(first: inside, last: inside)))
      }
    }
    return PortRange.normalized(ports)
  }

  private static func networks(_ value: JSON?, id: String) -> [String: NetworkEndpoint] {
    var networks: [String: NetworkEndpoint] = [:]
    for (name, endpoint) in value?.objectValue ?? [:] {
      let addresses = endpoint["IPAMConfig"]
      func address(_ key: String) -> String? {
        addresses?[key]?.stringValue.flatMap { $0.isEmpty ? nil : $0 }
      }
      networks[name] = NetworkEndpoint(
        // The engine adds the short id by itself.
        aliases: (endpoint["Aliases"]?.stringList ?? []).filter { $0 != id.prefix(12) },
        ipv4Address: address("IPv4Address"), ipv6Address: address("IPv6Address"),
        linkLocalIps: addresses?["LinkLocalIPs"]?.stringList ?? [])
    }
    return networks
  }

  private static func volumes(settings: JSONObject, host: JSONObject) -> [VolumeMount] {
    var seen: Set<String> = []
    var volumes: [VolumeMount] = []
    for text in (host["Binds"]?.stringList ?? []) + (settings["Volumes"]?.objectValue?.keys ?? [])
    where seen.insert(text).inserted {
      volumes.append(text.contains(":") ? .bind(text) : .anonymous(text))
    }
    return volumes + (host["Mounts"]?.arrayValue ?? []).map { .mount(Mount(inspecting: $0)) }
  }
}

nonisolated extension Healthcheck {
  /// Zero values are the engine's way to say unset; so is an empty test.
  init(inspecting value: JSON?) {
    func number(_ key: String) -> Int? { value?[key]?.intValue.flatMap { $0 == 0 ? nil : $0 } }
    let test = value?["Test"]?.stringList ?? []
    guard !test.isEmpty else {
      self = .none
      return
    }
    self.init(
      test: test, interval: number("Interval"), timeout: number("Timeout"),
      startPeriod: number("StartPeriod"),
      retries: number("Retries"))
  }
}

nonisolated extension Device {
  init(inspecting value: JSON) {
    self.init(
      pathOnHost: value["PathOnHost"]?.stringValue ?? "",
      pathInContainer: value["PathInContainer"]?.stringValue ?? "",
      permissions: value["CgroupPermissions"]?.stringValue ?? "")
  }
}

nonisolated extension DeviceRequest {
  init(inspecting value: JSON) {
    self.init(
      driver: value["Driver"]?.stringValue ?? "", count: value["Count"]?.intValue ?? 0,
      deviceIds: value["DeviceIDs"]?.stringList ?? [],
      capabilities: (value["Capabilities"]?.arrayValue ?? []).map(\.stringList),
      options: value["Options"]?.stringMap ?? [:])
  }
}

nonisolated extension Mount {
  init(inspecting value: JSON) {
    func text(_ value: JSON?) -> String? { value?.stringValue.flatMap { $0.isEmpty ? nil : $0 } }
    self.init(
      type: value["Type"]?.stringValue ?? "", source: text(value["Source"]),
      target: value["Target"]?.stringValue ?? "", isReadOnly: value["ReadOnly"]?.boolValue ?? false,
      propagation: text(value["BindOptions"]?["Propagation"]),
      noCopy: value["VolumeOptions"]?["NoCopy"]?.boolValue ?? false,
      tmpfsSize: value["TmpfsOptions"]?["SizeBytes"]?.intValue.flatMap { $0 == 0 ? nil : $0 })
  }
}
