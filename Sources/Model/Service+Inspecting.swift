import JSON

// A container as the engine shows it, read back into the form of a target (target-state 4.3).
nonisolated extension Service {
  /// - Parameter inspect: the answer of `GET /containers/<id>/json` for a supervised container.
  /// - Throws: for a container whose labels or name do not say what it is.
  public init(inspecting inspect: JSON) throws(ModelError) {
    let id = inspect["Id"]?.stringValue ?? ""
    let slashedName = inspect["Name"]?.stringValue ?? ""
    let containerName = slashedName.hasPrefix("/") ? String(slashedName.dropFirst()) : slashedName
    let settings = inspect["Config"] ?? [:]
    let labels = LegacyLabels.mapped(settings["Labels"]?.stringMap ?? [:])

    guard let appId = labels["io.balena.app-id"].flatMap({ Coercions.integer(.string($0)) }) else {
      throw ModelError("Found a service with no appId! Container: \(containerName)")
    }
    guard let serviceId = labels["io.balena.service-id"].flatMap({ Coercions.integer(.string($0)) }) else {
      throw ModelError("Attempt to build Service class from container with malformed labels")
    }
    let label = labels["io.balena.service-name"]
    guard let parts = ContainerName(parsing: containerName, serviceName: label) else {
      throw ModelError(
        "Expected supervised container to have name '<serviceName>_<imageId>_<releaseId>_<commit>', got: \(containerName)"
      )
    }

    let config = ServiceConfig(inspecting: inspect, id: id, labels: labels)
    self.init(
      appId: appId, appUuid: labels["io.balena.app-uuid"], name: label ?? parts.serviceName,
      serviceId: serviceId, imageId: parts.imageId, releaseId: parts.releaseId, commit: parts.commit,
      imageName: config.image, config: config,
      container: Container(inspecting: inspect, id: id, name: containerName))
  }
}

nonisolated extension Service.Container {
  init(inspecting inspect: JSON, id: String, name: String) {
    let state = inspect["State"] ?? [:]
    let status: ServiceStatus =
      if state["Running"]?.boolValue == true {
        .running
      } else {
        switch state["Status"]?.stringValue ?? "" {
        case "created": .installed
        case "dead": .dead
        case let text: .engine(text)
        }
      }
    let startedAt = state["StartedAt"]?.stringValue
    self.init(
      id: id, name: name, createdAt: inspect["Created"]?.stringValue ?? "",
      // The engine's zero time: never started.
      startedAt: startedAt?.hasPrefix("0001-") == true ? nil : startedAt, status: status,
      startError: state["Error"]?.stringValue ?? "", exitCode: state["ExitCode"]?.intValue,
      // `none` and `` mean that there is no check.
      health: state["Health"]?["Status"]?.stringValue.flatMap(ContainerHealth.init(rawValue:)))
  }
}

/// `<serviceName>_<imageId>_<releaseId>[_<commit>]`
nonisolated struct ContainerName {
  var serviceName: String
  var imageId: Int
  var releaseId: Int
  var commit: String?

  /// With the service's name known the rest is unambiguous, even for a commit of digits alone;
  /// without, the shortest service name is taken.
  init?(parsing name: String, serviceName: String?) {
    if let serviceName {
      // During a hand-over, and while an update can still be taken back.
      let previous = name.hasPrefix("previous.") ? name.split(separator: ".", maxSplits: 2).last ?? "" : ""
      let prefixes = [(name[...], serviceName + "_"), (name[...], "old_" + serviceName + "_")]
      for (name, prefix) in prefixes + [(previous, serviceName + "_")] where name.hasPrefix(prefix) {
        if let parsed = ContainerName(serviceName: serviceName, rest: name.dropFirst(prefix.count)) {
          self = parsed
          return
        }
      }
    }
    var from = name.startIndex
    while let underscore = name[from...].dropFirst().firstIndex(of: "_") {
      let service = String(name[..<underscore])
      if let parsed = ContainerName(serviceName: service, rest: name[underscore...].dropFirst()) {
        self = parsed
        return
      }
      from = underscore
    }
    return nil
  }

  private init?(serviceName: String, rest: Substring) {
    let parts = rest.split(separator: "_", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2, let imageId = Self.number(parts[0]), let releaseId = Self.number(parts[1]) else {
      return nil
    }
    self.serviceName = serviceName
    self.imageId = imageId
    self.releaseId = releaseId
    commit = parts.count == 3 ? String(parts[2]) : nil
  }

  private static func number(_ text: Substring) -> Int? {
    text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
  }
}
