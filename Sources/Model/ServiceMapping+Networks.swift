import JSON

// Networks, network mode and dependencies of a service (target-state 3.6 and 3.11).
nonisolated extension ServiceMapping {
  /// - Returns: what has to be reached before the start.
  mutating func mapNetworks(_ config: inout ServiceConfig) -> [Dependency] {
    var dependencies = composition.dependencies()
    let named = mapNamedNetworks()
    var endpoints: [String: NetworkEndpoint] = [:]
    for (name, endpoint) in named { endpoints[engineName(name)] = endpoint }

    switch composition.networkMode() {
    case .plain(let mode): config.networkMode = mode
    case .service(let name):
      config.networkMode = "service:" + name
      if !dependencies.contains(where: { $0.service == name }) { dependencies.append(Dependency(name)) }
    case .network(let name):
      config.networkMode = engineName(name)
      endpoints[engineName(name)] = NetworkEndpoint(aliases: [service.name])
    case .unset, .container:
      let main = engineName(named.first?.name ?? "default")
      config.networkMode = main
      if named.isEmpty { endpoints[main] = NetworkEndpoint(aliases: [service.name]) }
    }
    if !config.ownsNetwork, !endpoints.isEmpty {
      // The engine would refuse to join it to any: each start would fail.
      composition.note("Ignoring networks: with network_mode \(config.networkMode) there is none of its own")
      endpoints = [:]
    }
    config.networks = endpoints
    if config.networkMode == "host", config.hostname.isEmpty { config.hostname = context.hostName }
    config.dns = composition.textOrList("dns") ?? []
    config.dnsSearch = composition.textOrList("dnsSearch") ?? []
    config.dnsOpt = composition.list("dnsOpt") ?? []
    config.extraHosts = mapExtraHosts()
    return dependencies
  }

  /// `host:ip` or `host=ip`, or a map of one address or several for each host.
  private mutating func mapExtraHosts() -> [String] {
    guard case .object(let hosts) = composition["extraHosts"] else {
      return (composition.list("extraHosts") ?? []).map { entry in
        guard let equals = entry.firstIndex(of: "=") else { return entry }
        return entry[..<equals] + ":" + entry[equals...].dropFirst()
      }
    }
    return hosts.flatMap { host, value in
      (value.arrayValue ?? [value]).compactMap(Coercions.scalarText).map { "\(host):\($0)" }
    }
  }

  private func engineName(_ network: String) -> String { "\(app.uuid)_\(network)" }

  /// In the order of the document: the first is the main one.
  private mutating func mapNamedNetworks() -> [(name: String, endpoint: NetworkEndpoint)] {
    guard let value = composition["networks"] else { return [] }
    let own = NetworkEndpoint(aliases: [service.name])
    switch value {
    case .array: return (composition.list("networks") ?? []).map { ($0, own) }
    case .object(let networks):
      return networks.map { name, settings in
        guard !settings.isNull else { return (name, own) }
        guard let members = settings.objectValue else {
          composition.noteInvalid("networks.\(name)", settings)
          return (name, own)
        }
        var endpoint = endpoint(name, members)
        if !endpoint.aliases.contains(service.name) { endpoint.aliases.append(service.name) }
        return (name, endpoint)
      }
    default:
      composition.note("Ignoring invalid value of networks: \(value)")
      return []
    }
  }

  private mutating func endpoint(_ name: String, _ members: JSONObject) -> NetworkEndpoint {
    var endpoint = NetworkEndpoint()
    for (key, value) in members where !value.isNull {
      let key = Composition.camelCase(key)
      let text = value.stringValue
      switch key {
      case "aliases" where value.arrayValue != nil: endpoint.aliases = value.stringList
      case "linkLocalIps" where value.arrayValue != nil: endpoint.linkLocalIps = value.stringList
      case "ipv4Address" where text != nil: endpoint.ipv4Address = text.flatMap { $0.isEmpty ? nil : $0 }
      case "ipv6Address" where text != nil: endpoint.ipv6Address = text.flatMap { $0.isEmpty ? nil : $0 }
      case "aliases", "linkLocalIps", "ipv4Address", "ipv6Address":
        composition.noteInvalid("networks.\(name).\(key)", value)
      default: composition.note("Ignoring unsupported field \(key) of network \(name)")
      }
    }
    return endpoint
  }
}
