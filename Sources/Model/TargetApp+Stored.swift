import JSON

/// A target app in the columns of the database (target-state 2.1).
public nonisolated struct StoredTargetApp: Sendable, Hashable {
  public var appId: Int
  public var uuid: String
  public var name: String
  public var appClass: String
  public var isHost: Bool
  public var isRejected: Bool
  public var source: String
  /// nil, or 0 for `releaseId`, when the app is to run nothing.
  public var commit: String?
  public var releaseId: Int?
  /// JSON: an array, see `TargetApp.storedServices`.
  public var services: String
  /// JSON objects by name.
  public var networks: String
  public var volumes: String

  public init(
    appId: Int, uuid: String, name: String, appClass: String, isHost: Bool, isRejected: Bool,
    source: String, commit: String?, releaseId: Int?, services: String, networks: String, volumes: String
  ) {
    self.appId = appId
    self.uuid = uuid
    self.name = name
    self.appClass = appClass
    self.isHost = isHost
    self.isRejected = isRejected
    self.source = source
    self.commit = commit
    self.releaseId = releaseId
    self.services = services
    self.networks = networks
    self.volumes = volumes
  }
}

nonisolated extension TargetApp {
  /// The app's row.
  public var stored: StoredTargetApp {
    StoredTargetApp(
      appId: appId, uuid: uuid, name: name, appClass: appClass.rawValue, isHost: isHost,
      isRejected: isRejected, source: source, commit: release?.commit, releaseId: release?.id,
      services: storedServices.serialized(), networks: JSON.object(release?.networks ?? [:]).serialized(),
      volumes: JSON.object(release?.volumes ?? [:]).serialized())
  }

  /// Each service as the document had it, but with `serviceId` and `imageId` for `id` and
  /// `image_id`, and with what names its app and release.
  public var storedServices: JSON {
    guard let release else { return [] }
    return .array(
      release.services.map { service in
        var members = service.otherFields
        members["appId"] = .int(appId)
        members["appUuid"] = .string(uuid)
        members["releaseId"] = .int(release.id)
        members["commit"] = .string(release.commit)
        members["imageId"] = .int(service.imageId)
        members["serviceId"] = .int(service.serviceId)
        members["serviceName"] = .string(service.name)
        service.addFields(to: &members)
        return .object(members)
      })
  }

  /// - Throws: when a column does not hold what it should.
  public init(stored: StoredTargetApp) throws(ModelError) {
    self.init(
      appId: stored.appId, uuid: stored.uuid, name: stored.name,
      appClass: Class(rawValue: stored.appClass) ?? .fleet, isHost: stored.isHost,
      isRejected: stored.isRejected, source: stored.source, release: nil)
    guard let commit = stored.commit, !commit.isEmpty, let releaseId = stored.releaseId, releaseId != 0 else {
      return
    }
    var services: [TargetService] = []
    for value in try Self.parse(stored.services, "services").arrayValue ?? [] {
      services.append(try TargetService(stored: value))
    }
    release = TargetRelease(
      commit: commit, id: releaseId, services: services,
      networks: try Self.parse(stored.networks, "networks").objectValue ?? [:],
      volumes: try Self.parse(stored.volumes, "volumes").objectValue ?? [:])
  }

  /// An app of which no more than its identity can be read.
  public init(unreadable stored: StoredTargetApp, because error: ModelError) {
    self.init(
      appId: stored.appId, uuid: stored.uuid, name: stored.name,
      appClass: Class(rawValue: stored.appClass) ?? .fleet, isHost: stored.isHost, isRejected: true,
      source: stored.source, release: nil, problem: error.message)
  }

  /// The app as an entry of a version 3 document.
  public var exported: JSON {
    var releases = JSONObject()
    if let release, release.id != 0 {
      var services = JSONObject()
      for service in release.services {
        var members: JSONObject = ["id": .int(service.serviceId), "image_id": .int(service.imageId)]
        service.addFields(to: &members)
        for (key, value) in service.otherFields { members[key] = value }
        services[service.name] = .object(members)
      }
      releases[release.commit] = [
        "id": .int(release.id), "services": .object(services), "volumes": .object(release.volumes),
        "networks": .object(release.networks),
      ]
    }
    return [
      "id": .int(appId), "name": .string(name), "class": .string(appClass.rawValue), "is_host": .bool(isHost),
      "releases": .object(releases),
    ]
  }

  private static func parse(_ text: String, _ column: String) throws(ModelError) -> JSON {
    do throws(JSONSyntaxError) {
      return try JSON(parsing: text)
    } catch {
      throw ModelError("Stored \(column) of an app cannot be read: \(error)")
    }
  }
}

nonisolated extension TargetService {
  fileprivate func addFields(to members: inout JSONObject) {
    members["image"] = .string(image)
    members["environment"] = JSON(environment)
    members["labels"] = JSON(labels)
    members["running"] = .bool(isRunning)
    if let contract { members["contract"] = contract }
    members["composition"] = .object(composition)
  }

  fileprivate init(stored value: JSON) throws(ModelError) {
    guard var members = value.objectValue, let name = members["serviceName"]?.stringValue,
      let image = members["image"]?.stringValue
    else { throw ModelError("A stored service has no name or no image") }
    self.init(
      name: name, serviceId: Coercions.integer(members["serviceId"]) ?? 0,
      imageId: Coercions.integer(members["imageId"]) ?? 0, image: image,
      environment: members["environment"]?.stringMap ?? [:], labels: members["labels"]?.stringMap ?? [:],
      isRunning: members["running"]?.boolValue ?? true, contract: members["contract"],
      composition: members["composition"]?.objectValue ?? [:])
    for key in [
      "appId", "appUuid", "releaseId", "commit", "imageId", "serviceId", "serviceName", "image",
      "environment", "labels", "running", "contract", "composition",
    ] { members[key] = nil }
    otherFields = members
  }
}
