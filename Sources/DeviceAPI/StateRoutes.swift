import Database
import HTTP
import JSON
import Model
import StateEngine

// What runs, what is downloaded, and how far the update is (http-api 5.3 to 5.6).
extension DeviceAPI {
  var stateRoutes: [APIRoute] {
    [
      APIRoute(.get, "/v2/state/status", .filter) { [unowned self] request in
        let caller = request.caller
        if let problem = unreadable { return failed(problem, request) }
        return caller.prepared.answer(.stateStatus, revision: engine.revision) { stateStatus(caller) }
      },
      APIRoute(.get, "/v2/applications/state", .filter) { [unowned self] request in
        let caller = request.caller
        if let problem = unreadable { return failed(problem, request) }
        return caller.prepared.answer(.applicationsState, revision: engine.revision) {
          applicationsState(caller)
        }
      },
      APIRoute(.get, "/v2/applications/:appId/state", .hidden) { [unowned self] request in
        applicationState(request)
      },
      APIRoute(.get, "/v2/containerId", .filter) { [unowned self] request in containerId(request) },
    ]
  }

  // MARK: /v2/state/status

  private func stateStatus(_ caller: Caller) -> Response {
    let status = engine.report.stateStatus(commits: engine.commits, covers: caller.covers)
    var body: JSONObject = [
      "appState": engine.isApplying ? "applying" : "applied",
      "overallDownloadProgress": status.overallDownloadProgress.flatMap(JSONNumber.init).map(JSON.number)
        ?? .null,
      "containers": .array(status.containers.map(Self.container)),
      "images": .array(status.images.map(Self.image)),
    ]
    if let release = status.release { body["release"] = .string(release) }
    return .success(body)
  }

  private static func container(_ service: Service) -> JSON {
    [
      "status": .string(service.container?.status.text ?? ""), "serviceName": .string(service.name),
      "appId": .int(service.appId), "imageId": .int(service.imageId), "serviceId": .int(service.serviceId),
      "containerId": .string(service.container?.id ?? ""),
      "createdAt": .string(service.container.map { EngineTime.milliseconds($0.createdAt) } ?? ""),
    ]
  }

  private static func image(_ report: ImageReport) -> JSON {
    var image: JSONObject = ["name": .string(report.image.name)]
    image["appId"] = report.image.appId.map(JSON.int) ?? .null
    image["serviceName"] = JSON(report.image.serviceName)
    image["imageId"] = report.image.imageId.map(JSON.int) ?? .null
    if let id = report.image.engineId { image["dockerImageId"] = .string(id) }
    image["status"] = .string(report.status.rawValue)
    image["downloadProgress"] = report.progress.map(JSON.int) ?? .null
    return .object(image)
  }

  // MARK: /v2/applications/state

  private func applicationsState(_ caller: Caller) -> Response {
    var apps = JSONObject()
    for app in engine.report.applicationStates(covers: caller.covers) {
      let releaseId = engine.storedTarget.first { $0.appId == app.appId }?.wantedReleaseId
      var services = JSONObject()
      for service in app.services {
        services[service.service] = [
          "status": .string(service.status), "image": .string(service.imageName),
          "releaseId": releaseId.map(JSON.int) ?? .null,
          "downloadProgress": service.progress.map(JSON.int) ?? .null,
        ]
      }
      apps[app.name] = [
        "appId": .int(app.appId), "appUuid": JSON(app.appUuid), "commit": JSON(app.commit),
        "updateStatus": .string(app.updateStatus.rawValue), "services": .object(services),
      ]
    }
    return .json(.object(apps))
  }

  // MARK: /v2/applications/:appId/state

  private func applicationState(_ request: Request) -> Response {
    let text = request.parameter("appId") ?? ""
    guard let appId = Coercions.integer(.string(text)), appId != 0 else {
      return .failure("Invalid application ID: \(text)", status: 400)
    }
    // An app that the key does not cover looks like one that does not exist, whatever is known of it.
    let unknown = Response.failure("Application ID does not exist: \(appId)", status: 409)
    guard request.caller.covers(appId) else { return unknown }
    if unreadable != nil {
      return .failure("Unable to retrieve state for application ID: \(appId)", status: 500)
    }
    let isKnown =
      engine.targetOutlines.contains { $0.appId == appId }
      || engine.currentApps.contains { $0.appId == appId }
    guard isKnown else { return unknown }
    let detail = engine.report.applicationDetail(appId: appId, commits: engine.commits)
    var services = JSONObject()
    for service in detail.services {
      services[String(service.imageId)] = [
        "status": .string(service.status), "releaseId": .int(service.releaseId),
        "download_progress": service.progress.map(JSON.int) ?? .null,
      ]
    }
    var body = JSONObject()
    if let commit = detail.commit { body["commit"] = .string(commit) }
    body["local"] = .object([String(appId): ["services": .object(services)]])
    return .json(.object(body))
  }

  // MARK: /v2/containerId

  private func containerId(_ request: Request) -> Response {
    if let problem = unreadable { return failed(problem, request) }
    let services = engine.currentApps.filter { request.caller.covers($0.appId) }.flatMap(\.services)
    guard let name = request.query("serviceName").first ?? request.query("service").first else {
      var ids = JSONObject()
      for service in services { ids[service.name] = JSON(service.container?.id) }
      return .success(["services": .object(ids)])
    }
    guard let service = services.first(where: { $0.name == name }) else {
      return .failure("Could not find service with that name", status: 503)
    }
    return .success(["containerId": JSON(service.container?.id)])
  }
}

/// Times as the engine writes them.
nonisolated enum EngineTime {
  /// `2020-11-13T20:29:44.143829Z` becomes `2020-11-13T20:29:44.143Z`; a text of another form
  /// stays as it is.
  static func milliseconds(_ text: String) -> String {
    guard text.hasSuffix("Z") else { return text }
    let parts = text.dropLast().split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard let whole = parts.first, whole.utf8.count == 19 else { return text }
    let fraction = parts.count == 2 ? String(parts[1].prefix(3)) : ""
    return "\(whole).\(fraction)\(String(repeating: "0", count: 3 - fraction.count))Z"
  }
}
