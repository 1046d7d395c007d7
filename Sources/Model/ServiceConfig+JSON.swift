import JSON

// The engine's JSON forms of the values of a service, and the one text by which each is compared.

nonisolated extension Healthcheck {
  /// `Healthcheck` of a create call; unset members are left out.
  var json: JSON {
    var members: JSONObject = ["Test": JSON(test)]
    members["Interval"] = interval.map(JSON.int)
    members["Timeout"] = timeout.map(JSON.int)
    members["StartPeriod"] = startPeriod.map(JSON.int)
    members["Retries"] = retries.map(JSON.int)
    return .object(members)
  }
}

nonisolated extension NetworkEndpoint {
  /// An entry of `EndpointsConfig`, and `EndpointConfig` of a connect call.
  var json: JSON {
    var addresses = JSONObject()
    addresses["IPv4Address"] = ipv4Address.map(JSON.string)
    addresses["IPv6Address"] = ipv6Address.map(JSON.string)
    if !linkLocalIps.isEmpty { addresses["LinkLocalIPs"] = JSON(linkLocalIps) }
    return ["IPAMConfig": .object(addresses), "Aliases": JSON(aliases)]
  }
}

nonisolated extension Mount {
  /// An entry of `HostConfig.Mounts`.
  var json: JSON {
    var members: JSONObject = ["Type": .string(type), "Target": .string(target)]
    members["Source"] = source.map(JSON.string)
    if isReadOnly { members["ReadOnly"] = true }
    if let propagation { members["BindOptions"] = ["Propagation": .string(propagation)] }
    if noCopy { members["VolumeOptions"] = ["NoCopy": true] }
    if let tmpfsSize { members["TmpfsOptions"] = ["SizeBytes": .int(tmpfsSize)] }
    return .object(members)
  }
}

nonisolated extension VolumeMount {
  var text: String {
    switch self {
    case .anonymous(let path): path
    case .bind(let text): text
    case .mount(let mount): mount.json.serialized()
    }
  }
}

nonisolated extension Device {
  var text: String { "\(pathOnHost):\(pathInContainer):\(permissions)" }

  /// An entry of `HostConfig.Devices`.
  var json: JSON {
    [
      "PathOnHost": .string(pathOnHost), "PathInContainer": .string(pathInContainer),
      "CgroupPermissions": .string(permissions),
    ]
  }
}

nonisolated extension DeviceRequest {
  /// An entry of `HostConfig.DeviceRequests`.
  var json: JSON {
    [
      "Driver": .string(driver), "Count": .int(count), "DeviceIDs": JSON(deviceIds),
      "Capabilities": .array(capabilities.map { JSON($0) }), "Options": JSON(options),
    ]
  }
}

nonisolated extension Ulimit {
  var text: String { "\(soft):\(hard)" }
}

nonisolated extension JSON {
  /// `value`, or `null` for nil.
  init(_ value: Bool?) { self = value.map(JSON.bool) ?? .null }

  /// The strings of a list; other elements and other values are passed over.
  var stringList: [String] { arrayValue?.compactMap(\.stringValue) ?? [] }

  /// The members of an object whose values are strings.
  var stringMap: [String: String] {
    var map: [String: String] = [:]
    for (key, value) in objectValue ?? [:] { map[key] = value.stringValue }
    return map
  }
}
