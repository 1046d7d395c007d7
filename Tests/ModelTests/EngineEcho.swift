import JSON

@testable import Model

/// What Docker Engine 20.10 shows of a container that it was told to create, as pure data: the table
/// at the end of target-state 4.4.
nonisolated struct EngineEcho {
  var image: ImageInfo
  var id = "0123456789abcdef0123456789abcdef"
  var hostName = "engine-host"
  /// Empty lists and maps are shown as `null`.
  var showsNull = false

  func inspect(_ request: JSON, of service: Service) -> JSON {
    var settings = request.objectValue ?? [:]
    let host = settings["HostConfig"]?.objectValue ?? [:]
    let endpoints = settings["NetworkingConfig"]?["EndpointsConfig"]?.objectValue ?? [:]
    settings["HostConfig"] = nil
    settings["NetworkingConfig"] = nil
    echo(settings: &settings, networkMode: host["NetworkMode"]?.stringValue ?? "")
    if service.config.networkMode.hasPrefix("service:") { settings["Hostname"] = "other" }
    return [
      "Id": .string(id), "Name": .string("/" + service.containerName), "Created": "2024-01-01T00:00:00Z",
      "State": ["Status": "running", "Running": true, "Error": "", "ExitCode": 0],
      "Config": .object(settings), "HostConfig": .object(echo(host: host)),
      "NetworkSettings": [
        "Networks": .object(networks(endpoints, service.networksToConnect, mode: host["NetworkMode"]))
      ],
    ]
  }

  private func echo(settings: inout JSONObject, networkMode: String) {
    if settings["Cmd"] == [], settings["Entrypoint"] == [] { settings["Cmd"] = JSON(image.cmd) }
    let names = Set(settings["Env"]?.stringList.map { $0.prefix { $0 != "=" } } ?? [])
    let more = image.env.filter { !names.contains($0.prefix { $0 != "=" }) }
    settings["Env"] = JSON((settings["Env"]?.stringList ?? []) + more)
    var labels = settings["Labels"]?.stringMap ?? [:]
    labels.merge(image.labels) { own, _ in own }
    settings["Labels"] = JSON(labels)
    var volumes = settings["Volumes"]?.objectValue ?? [:]
    for path in image.volumes { volumes[path] = [:] }
    settings["Volumes"] = .object(volumes)

    func orImage(_ key: String, _ text: String) { if settings[key] == "" { settings[key] = .string(text) } }
    orImage("User", image.user)
    orImage("StopSignal", image.stopSignal)
    orImage("WorkingDir", image.workingDir)
    settings["WorkingDir"] = .string(CleanPath.clean(settings["WorkingDir"]?.stringValue ?? ""))
    if settings["MacAddress"] == "" { settings["MacAddress"] = nil }
    if settings["StopSignal"] == "" { settings["StopSignal"] = nil }
    if settings["Hostname"] == "" {
      settings["Hostname"] = .string(networkMode == "host" ? hostName : String(id.prefix(12)))
    }
    settings["Healthcheck"] = health(settings["Healthcheck"])
    for (key, value) in settings where showsNull && (value == [] || value == [:]) { settings[key] = .null }
  }

  private func health(_ sent: JSON?) -> JSON {
    var members = sent?.objectValue ?? [:]
    let image = image.healthcheck?.json
    if members["Test"] == [] { members["Test"] = image?["Test"] }
    for key in ["Interval", "Timeout", "StartPeriod", "Retries"] where (members[key]?.intValue ?? 0) == 0 {
      members[key] = image?[key]
    }
    return .object(members)
  }

  private func echo(host: JSONObject) -> JSONObject {
    var host = host
    if (host["PidsLimit"]?.intValue ?? 0) <= 0 { host["PidsLimit"] = .null }
    if host["Privileged"] == true || host["PidMode"] == "host" || host["IpcMode"] == "host" {
      host["SecurityOpt"] = JSON((host["SecurityOpt"]?.stringList ?? []) + ["label=disable"])
    }
    host["MemorySwap"] = .int((host["Memory"]?.intValue ?? 0) * 2)
    if host["ShmSize"] == 0 { host["ShmSize"] = 67_108_864 }
    if host["IpcMode"] == "" { host["IpcMode"] = "private" }
    for key in ["Mounts", "Tmpfs", "Sysctls"] where host[key] == [] || host[key] == [:] { host[key] = nil }
    for (key, value) in host where showsNull && (value == [] || value == [:]) { host[key] = .null }
    return host
  }

  private func networks(
    _ endpoints: JSONObject, _ more: [(name: String, endpoint: JSON)], mode: JSON?
  ) -> JSONObject {
    var shown = JSONObject()
    if ["host", "none", "bridge"].contains(mode), let mode = mode?.stringValue {
      shown[mode] = ["IPAMConfig": nil, "Aliases": nil]
    }
    for (name, endpoint) in Array(endpoints) + more.map({ (key: $0.name, value: $0.endpoint) }) {
      let aliases = (endpoint["Aliases"]?.stringList ?? []) + [String(id.prefix(12))]
      shown[name] = ["IPAMConfig": endpoint["IPAMConfig"] ?? nil, "Aliases": JSON(aliases)]
    }
    return shown
  }
}
