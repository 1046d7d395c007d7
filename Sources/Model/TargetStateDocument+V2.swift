import JSON

// The older document of local mode, as development tools post it (target-state 1.8).
nonisolated extension TargetStateDocument {
  /// Converts the body of `POST /v2/local/target-state` to a version 3 document.
  ///
  /// Only the structure is judged here, as far as the conversion needs it; the result has yet to be
  /// read by `parse`. Fields that are not known are left out, those of a service become composition.
  ///
  /// - Parameter deviceName: used when the body names none.
  /// - Throws: when the device has no uuid, or something is not the object or name that it must be.
  public static func convertV2(
    _ body: JSON, deviceUuid: String, deviceName: String
  ) throws(TargetStateError) -> JSON {
    guard !deviceUuid.isEmpty else { throw TargetStateError(.failed, "No UUID for device") }
    let members = try object(body, "body")
    let local = try object(members["local"], "local")
    var apps = JSONObject()
    for (key, value) in try object(local["apps"], "local.apps") {
      apps[key] = .object(try app(value, key: key, path: "local.apps." + key))
    }
    var device = JSONObject()
    device["name"] = local["name"].flatMap { $0.isNull ? nil : $0 } ?? .string(deviceName)
    device["config"] = local["config"].flatMap { $0.isNull ? nil : $0 } ?? [:]
    device["apps"] = .object(apps)
    return .object([deviceUuid: .object(device)])
  }

  static func app(_ value: JSON, key: String, path: String) throws(TargetStateError) -> JSONObject {
    guard let id = DocumentName.numericId(.string(key)) else {
      throw invalid("NumericId", path, .string(key))
    }
    guard let members = value.objectValue else { throw invalid("object", path, value) }
    var app = JSONObject()
    app["id"] = .int(id)
    app["name"] = members["name"]
    app["class"] = "fleet"
    var releases = JSONObject()
    if let commit = members["commit"], Coercions.isSet(commit) {
      guard let text = commit.stringValue else { throw invalid("string", path + ".commit", commit) }
      releases[text] = .object(try release(members, path: path))
    }
    app["releases"] = .object(releases)
    return app
  }

  private static func release(_ members: JSONObject, path: String) throws(TargetStateError) -> JSONObject {
    var services = JSONObject()
    for (key, value) in try object(members["services"], path + ".services") {
      let path = path + ".services." + key
      guard let fields = value.objectValue else { throw invalid("object", path, value) }
      guard let name = fields["serviceName"]?.stringValue else {
        throw invalid("string", path + ".serviceName", fields["serviceName"])
      }
      guard services[name] == nil else {
        throw invalid("another service's name", path + ".serviceName", .string(name))
      }
      services[name] = .object(service(fields, key: key))
    }
    return [
      "id": members["releaseId"] ?? .null,
      "services": .object(services),
      "volumes": .object(try object(members["volumes"], path + ".volumes")),
      "networks": .object(try object(members["networks"], path + ".networks")),
    ]
  }

  private static func service(_ fields: JSONObject, key: String) -> JSONObject {
    var service = JSONObject()
    var composition = JSONObject()
    service["id"] = .string(key)
    for (name, value) in fields {
      switch name {
      case "serviceName", "serviceId": break
      case "imageId": service["image_id"] = value
      case "image", "environment", "labels", "running", "contract": service[name] = value
      default: composition[name] = value
      }
    }
    service["composition"] = .object(composition)
    return service
  }

  /// The members of an object, none when it is missing or `null`.
  private static func object(_ value: JSON?, _ path: String) throws(TargetStateError) -> JSONObject {
    guard let value, !value.isNull else { return [:] }
    guard let members = value.objectValue else { throw invalid("object", path, value) }
    return members
  }

  private static func invalid(_ type: String, _ path: String, _ value: JSON?) -> TargetStateError {
    let shown = value?.serialized() ?? "undefined"
    return TargetStateError(
      .invalid, "Invalid target state.\nExpecting \(type) at \(path) but instead got: \(shown.prefix(200))")
  }
}
