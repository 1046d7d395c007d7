import JSON

// Target apps as `GET /v2/local/target-state` shows them (http-api 5.14).
nonisolated extension App {
  /// Variables that are not shown: keys to the device and to its API (target-state 5.3).
  public static let privateVariables: Set<String> = [
    "BALENA_API_KEY", "RESIN_API_KEY", "BALENA_SUPERVISOR_API_KEY", "RESIN_SUPERVISOR_API_KEY",
  ]

  /// The app without the keys that are in its services' environment.
  public var dump: JSON {
    var members = JSONObject()
    members["appId"] = .int(appId)
    members["appUuid"] = JSON(uuid)
    members["appName"] = .string(name)
    members["commit"] = JSON(commit)
    members["source"] = JSON(source)
    members["isHost"] = .bool(isHost)
    members["isRejected"] = .bool(isRejected)
    members["isTargetState"] = .bool(source != nil)
    members["services"] = .array(services.map(\.dump))
    members["networks"] = .array(networks.map(\.dump))
    members["volumes"] = .array(volumes.map(\.dump))
    return .object(members)
  }
}

nonisolated extension Service {
  fileprivate var dump: JSON {
    var members = JSONObject()
    members["appId"] = .int(appId)
    members["appUuid"] = JSON(appUuid)
    members["serviceName"] = .string(name)
    members["serviceId"] = .int(serviceId)
    members["imageId"] = .int(imageId)
    members["releaseId"] = .int(releaseId)
    members["commit"] = JSON(commit)
    members["imageName"] = .string(imageName)
    if config.image.hasPrefix("sha256:") { members["dockerImageId"] = .string(config.image) }
    members["dependsOn"] = JSON(dependencies.map(\.service))
    members["config"] = .object(config.dump)
    return .object(members)
  }
}

nonisolated extension ServiceConfig {
  fileprivate var dump: JSONObject {
    var members = JSONObject()
    members["image"] = .string(image)
    members["running"] = .bool(isRunning)
    members["labels"] = JSON(labels)
    members["environment"] = JSON(environment.filter { !App.privateVariables.contains($0.key) })
    members["command"] = JSON(command)
    members["entrypoint"] = JSON(entrypoint)
    members["user"] = .string(user)
    members["workingDir"] = .string(workingDir)
    members["hostname"] = .string(hostname)
    members["domainname"] = .string(domainname)
    members["macAddress"] = .string(macAddress)
    members["tty"] = .bool(tty)
    members["stopSignal"] = .string(stopSignal)
    members["stopGracePeriod"] = .int(stopGracePeriod)
    members["healthcheck"] = healthcheck.dump
    members["networkMode"] = .string(networkMode)
    members["networks"] = .object(
      JSONObject(networks.sorted { $0.key < $1.key }.map { ($0.key, $0.value.dump) }))
    members["portMaps"] = .array(ports.map { .string($0.description) })
    members["dns"] = JSON(dns)
    members["dnsSearch"] = JSON(dnsSearch)
    members["dnsOpt"] = JSON(dnsOpt)
    members["extraHosts"] = JSON(extraHosts)
    members["volumes"] = .array(
      volumes.map { if case .mount(let mount) = $0 { mount.json } else { .string($0.text) } })
    members["tmpfs"] = JSON(tmpfs)
    members["readOnly"] = .bool(readOnly)
    members["privileged"] = .bool(privileged)
    members["capAdd"] = JSON(capAdd)
    members["capDrop"] = JSON(capDrop)
    members["securityOpt"] = JSON(securityOpt)
    members["groupAdd"] = JSON(groupAdd)
    members["devices"] = .array(devices.map(\.json))
    members["deviceRequests"] = .array(deviceRequests.map(\.json))
    members["sysctls"] = JSON(sysctls)
    members["ulimits"] = .object(
      JSONObject(
        ulimits.sorted { $0.key < $1.key }
          .map { ($0.key, ["soft": .int($0.value.soft), "hard": .int($0.value.hard)]) }))
    if let initProcess { members["init"] = .bool(initProcess) }
    members["ipc"] = .string(ipc)
    members["pid"] = .string(pid)
    members["usernsMode"] = .string(usernsMode)
    members["cgroupParent"] = .string(cgroupParent)
    members["restart"] = .string(restart)
    members["cpus"] = JSONNumber(Double(nanoCpus) / 1_000_000_000).map(JSON.number) ?? 0
    members["cpuShares"] = .int(cpuShares)
    members["cpuQuota"] = .int(cpuQuota)
    members["cpuset"] = .string(cpuset)
    members["memLimit"] = .int(memLimit)
    members["memReservation"] = .int(memReservation)
    members["shmSize"] = .int(shmSize)
    members["oomKillDisable"] = .bool(oomKillDisable ?? false)
    members["oomScoreAdj"] = .int(oomScoreAdj)
    members["pidsLimit"] = .int(pidsLimit)
    return members
  }
}

nonisolated extension NetworkEndpoint {
  fileprivate var dump: JSON {
    var members: JSONObject = ["aliases": JSON(aliases)]
    members["ipv4Address"] = ipv4Address.map(JSON.string)
    members["ipv6Address"] = ipv6Address.map(JSON.string)
    if !linkLocalIps.isEmpty { members["linkLocalIps"] = JSON(linkLocalIps) }
    return .object(members)
  }
}

nonisolated extension Healthcheck {
  fileprivate var dump: JSON {
    var members: JSONObject = ["test": JSON(test)]
    members["interval"] = interval.map(JSON.int)
    members["timeout"] = timeout.map(JSON.int)
    members["startPeriod"] = startPeriod.map(JSON.int)
    members["retries"] = retries.map(JSON.int)
    return .object(members)
  }
}

nonisolated extension Network {
  fileprivate var dump: JSON {
    [
      "appId": .int(appId), "appUuid": JSON(appUuid), "name": .string(name),
      "config": [
        "driver": .string(config.driver), "ipam": config.ipam.json, "enableIPv6": .bool(config.enableIPv6),
        "internal": .bool(config.isInternal), "labels": JSON(config.labels), "options": JSON(config.options),
        "configOnly": .bool(config.isConfigOnly),
      ],
    ]
  }
}

nonisolated extension Volume {
  fileprivate var dump: JSON {
    [
      "appId": .int(appId), "appUuid": JSON(appUuid), "name": .string(name),
      "config": [
        "driver": .string(config.driver), "driverOpts": JSON(config.options), "labels": JSON(config.labels),
      ],
    ]
  }
}
