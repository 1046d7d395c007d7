import JSON

// Whether a container is what its target says (target-state 4.4). Every rule that differs from plain
// equality stands here or, where it can be settled beforehand, in the normal form of `ServiceConfig`.
nonisolated extension Service {
  /// The fields in which this container differs from `target`; empty when it can stay.
  ///
  /// Commit, ids, `running` and dependencies take no part: they do not need another container.
  /// Values of environment variables are never shown.
  ///
  /// - Parameter containerIds: the current container id of each service of the app, for
  ///   network modes that share another service's network.
  public func differences(to target: Service, containerIds: [String: String]) -> [Difference] {
    let current = config
    let wanted = target.config
    var found = DifferenceList()
    found.exact("image", current.image, wanted.image)
    // An image that is not here yet has not lent the target its defaults.
    if !found.all.isEmpty, !wanted.image.hasPrefix("sha256:") { return found.all }

    found.map("labels", current.labels, wanted.labels)
    found.map("environment", current.environment, wanted.environment, isHidden: true)
    found.exact("command", current.command, wanted.command)
    found.exact("entrypoint", current.entrypoint, wanted.entrypoint)
    found.exact("user", current.user, wanted.user)
    found.exact("workingDir", current.workingDir, wanted.workingDir)
    found.exact("domainname", current.domainname, wanted.domainname)
    found.exact("macAddress", current.macAddress, wanted.macAddress)
    found.exact("tty", current.tty, wanted.tty)
    found.exact("stopSignal", current.stopSignal, wanted.stopSignal)
    found.exact("stopGracePeriod", current.stopGracePeriod, wanted.stopGracePeriod)
    found.exact("healthcheck", current.healthcheck.json, wanted.healthcheck.json)
    found.exact("ports", current.ports.map(\.description), wanted.ports.map(\.description))
    found.exact("dns", current.dns, wanted.dns)
    found.exact("dnsSearch", current.dnsSearch, wanted.dnsSearch)
    found.set("dnsOpt", current.dnsOpt, wanted.dnsOpt)
    found.set("extraHosts", current.extraHosts, wanted.extraHosts)
    found.set("volumes", current.volumes.map(\.text), wanted.volumes.map(\.text))
    found.set("tmpfs", current.tmpfs, wanted.tmpfs)
    found.exact("readOnly", current.readOnly, wanted.readOnly)
    found.exact("privileged", current.privileged, wanted.privileged)
    found.set("capAdd", current.capAdd, wanted.capAdd)
    found.set("capDrop", current.capDrop, wanted.capDrop)
    found.set("securityOpt", current.securityOpt, wanted.securityOpt)
    found.set("groupAdd", current.groupAdd, wanted.groupAdd)
    found.set("devices", current.devices.map(\.text), wanted.devices.map(\.text))
    found.exact(
      "deviceRequests", JSON.array(current.deviceRequests.map(\.json)),
      JSON.array(wanted.deviceRequests.map(\.json)))
    found.map("sysctls", current.sysctls, wanted.sysctls)
    found.map("ulimits", current.ulimits.mapValues(\.text), wanted.ulimits.mapValues(\.text))
    found.exact("init", JSON(current.initProcess), JSON(wanted.initProcess))
    found.exact("ipc", current.ipc, wanted.ipc)
    found.exact("pid", current.pid, wanted.pid)
    found.exact("usernsMode", current.usernsMode, wanted.usernsMode)
    found.exact("cgroupParent", current.cgroupParent, wanted.cgroupParent)
    found.exact("restart", current.restart, wanted.restart)
    found.exact("cpuShares", current.cpuShares, wanted.cpuShares)
    found.exact("cpuQuota", current.cpuQuota, wanted.cpuQuota)
    found.exact("cpuset", current.cpuset, wanted.cpuset)
    found.exact("memLimit", current.memLimit, wanted.memLimit)
    found.exact("memReservation", current.memReservation, wanted.memReservation)
    found.exact("shmSize", current.shmSize, wanted.shmSize)
    if let isDisabled = current.oomKillDisable {
      found.exact("oomKillDisable", isDisabled, wanted.oomKillDisable ?? false)
    }
    found.exact("oomScoreAdj", current.oomScoreAdj, wanted.oomScoreAdj)
    found.exact("pidsLimit", current.pidsLimit, wanted.pidsLimit)
    found.networkMode(of: self, target, containerIds: containerIds)
    found.networks(current.networks, wanted.networks)
    return found.all
  }
}

/// Collects differences; texts are made only for what differs.
nonisolated struct DifferenceList {
  var all: [Difference] = []

  mutating func add(
    _ field: String, _ current: some CustomStringConvertible, _ target: some CustomStringConvertible
  ) {
    all.append(Difference(field: field, current: current.description, target: target.description))
  }

  mutating func exact<Value: Equatable & CustomStringConvertible>(
    _ field: String, _ current: Value, _ target: Value
  ) {
    if current != target { add(field, current, target) }
  }

  mutating func exact(_ field: String, _ current: [String], _ target: [String]) {
    if current != target { add(field, JSON(current), JSON(target)) }
  }

  /// Order and repetition do not matter.
  mutating func set(_ field: String, _ current: [String], _ target: [String]) {
    if current == target { return }
    let (a, b) = (Set(current), Set(target))
    if a != b { add(field, JSON(a.sorted()), JSON(b.sorted())) }
  }

  /// One difference for each name.
  mutating func map(
    _ field: String, _ current: [String: String], _ target: [String: String], isHidden: Bool = false
  ) {
    if current == target { return }
    func text(_ value: String?) -> String {
      guard let value else { return "(none)" }
      return isHidden ? "hidden" : value
    }
    for name in Set(current.keys).union(target.keys).sorted() where current[name] != target[name] {
      add("\(field).\(name)", text(current[name]), text(target[name]))
    }
  }

  /// Rule 5: a shared network belongs to the other service's present container; the host name of
  /// such a container is not its own.
  mutating func networkMode(of current: Service, _ target: Service, containerIds: [String: String]) {
    if let other = target.networkService {
      let wanted = containerIds[other].map { "container:" + $0 }
      if current.config.networkMode != wanted {
        add("networkMode", current.config.networkMode, wanted ?? target.config.networkMode)
      }
      return
    }
    exact("networkMode", current.config.networkMode, target.config.networkMode)
    // Without a name of ours the engine shows its own in host mode.
    if target.config.networkMode == "host", target.config.hostname.isEmpty { return }
    exact("hostname", current.config.hostname, target.config.hostname)
  }

  /// Rule 4: what the target wants must be there; more may be.
  mutating func networks(_ current: [String: NetworkEndpoint], _ target: [String: NetworkEndpoint]) {
    for (name, wanted) in target.sorted(by: { $0.key < $1.key }) {
      let field = "networks.\(name)"
      guard let present = current[name] else {
        add(field, "(none)", wanted.json)
        continue
      }
      if !Set(wanted.aliases).isSubset(of: present.aliases) {
        add(field + ".aliases", JSON(present.aliases), JSON(wanted.aliases))
      }
      if let address = wanted.ipv4Address, address != present.ipv4Address {
        add(field + ".ipv4Address", present.ipv4Address ?? "(none)", address)
      }
      if let address = wanted.ipv6Address, address != present.ipv6Address {
        add(field + ".ipv6Address", present.ipv6Address ?? "(none)", address)
      }
      if !wanted.linkLocalIps.isEmpty {
        set(field + ".linkLocalIps", present.linkLocalIps, wanted.linkLocalIps)
      }
    }
  }
}
