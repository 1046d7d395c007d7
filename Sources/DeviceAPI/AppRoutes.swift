import HTTP
import JSON
import Model
import StateEngine

// Actions on whole apps, and the oldest view of one (http-api 4.7, 4.9, 5.2, 5.12).
extension DeviceAPI {
  var appRoutes: [APIRoute] {
    [
      .awaiting(.post, "/v1/purge", .app) { [unowned self] request in
        guard let appId = Coercions.integer(request.json["appId"]) else {
          return .html("Invalid or missing appId", status: 400)
        }
        return await purge(appId, request, success: .data())
      },
      .awaiting(.post, "/v1/restart", .app) { [unowned self] request in
        guard let appId = Coercions.integer(request.json["appId"]) else {
          return .html("Missing app id", status: 400)
        }
        return await restart(appId, request)
      },
      .awaiting(.post, "/v2/applications/:appId/purge", .app) { [unowned self] request in
        guard let appId = request.appId, appId != 0 else { return .failure("Missing app id", status: 400) }
        return await purge(appId, request, success: .html("OK"))
      },
      .awaiting(.post, "/v2/applications/:appId/restart", .app) { [unowned self] request in
        guard let appId = request.appId, appId != 0 else { return .failure("Missing app id", status: 400) }
        return await restart(appId, request)
      },
      .awaiting(.get, "/v1/apps/:appId", .app) { [unowned self] request in await application(request) },
      .awaiting(.get, "/v2/cleanup-volumes", .filter) { [unowned self] request in
        await cleanUpVolumes(request)
      },
    ]
  }

  private func purge(_ appId: Int, _ request: Request, success: Response) async -> Response {
    guard request.caller.covers(appId) else { return .failure("Unauthorized", status: 401) }
    do throws(ActionError) {
      try await engine.purgeApp(appId, force: request.isForced)
      return success
    } catch {
      return failed(error, request)
    }
  }

  private func restart(_ appId: Int, _ request: Request) async -> Response {
    guard request.caller.covers(appId) else { return .failure("Unauthorized", status: 401) }
    do throws(ActionError) {
      try await engine.restartApp(appId, force: request.isForced)
      return .html("OK")
    } catch {
      return failed(error, request)
    }
  }

  /// Variables of a container that are nobody's business or say nothing (http-api 4.9).
  private static let hiddenVariables = App.privateVariables.union([
    "RESIN_DEVICE_NAME_AT_INIT", "BALENA_DEVICE_NAME_AT_INIT",
  ])

  private func application(_ request: Request) async -> Response {
    guard let appId = request.appId else { return .html("Missing app id", status: 400) }
    guard request.caller.covers(appId) else {
      return .failure("Application is not available", status: 401)
    }
    let apps: [App]
    do throws(ActionError) { apps = try await engine.freshCurrentApps() } catch {
      return failed(error, request)
    }
    guard let services = apps.first(where: { $0.appId == appId })?.services, let service = services.first
    else { return .html("App not found", status: 400) }
    guard services.count == 1 else {
      return .html("Some v1 endpoints are only allowed on single-container apps", status: 400)
    }
    let environment = service.config.environment.filter { !Self.hiddenVariables.contains($0.key) }
    var body: JSONObject = ["appId": .int(appId)]
    body["commit"] = engine.commits[appId].map(JSON.string)
    body["containerId"] = JSON(service.container?.id)
    body["env"] = JSON(environment)
    body["imageId"] = .string(service.config.image)
    body["releaseId"] = .int(service.releaseId)
    return .json(.object(body))
  }

  /// A GET with effects, as it always was.
  private func cleanUpVolumes(_ request: Request) async -> Response {
    let caller = request.caller
    do throws(ActionError) {
      try await engine.removeUnusedVolumes(
        covers: { caller.covers($0) }, isUnrestricted: caller.isUnrestricted)
      return .success()
    } catch {
      return failed(error, request)
    }
  }
}
