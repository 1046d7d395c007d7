import Engine
import HTTP
import JSON
import Model
import StateEngine

// Actions on one service (http-api 4.10, 5.1, 6.1).
extension DeviceAPI {
  private enum Action { case start, stop, restart }

  var serviceRoutes: [APIRoute] {
    [
      .awaiting(.post, "/v1/apps/:appId/stop", .app) { [unowned self] request in await single(.stop, request)
      },
      .awaiting(.post, "/v1/apps/:appId/start", .app) { [unowned self] request in
        await single(.start, request)
      },
      .awaiting(.post, "/v2/applications/:appId/restart-service", .app) { [unowned self] request in
        await named(.restart, request)
      },
      .awaiting(.post, "/v2/applications/:appId/stop-service", .app) { [unowned self] request in
        await named(.stop, request)
      },
      .awaiting(.post, "/v2/applications/:appId/start-service", .app) { [unowned self] request in
        await named(.start, request)
      },
    ]
  }

  private static let needsService =
    "serviceName or imageId parameters were not provided or the app is multi-container. Use the v2 service action endpoints."

  private func perform(
    _ action: Action, _ appId: Int, _ selection: ServiceSelection, _ request: Request
  ) async throws(ActionError) {
    switch action {
    case .start: try await engine.startService(appId: appId, selection)
    case .stop: try await engine.stopService(appId: appId, selection, force: request.isForced)
    case .restart: try await engine.restartService(appId: appId, selection, force: request.isForced)
    }
  }

  // MARK: v1

  /// Of an app that has one service.
  private func single(_ action: Action, _ request: Request) async -> Response {
    guard let appId = request.appId else { return .html("Invalid app id", status: 400) }
    guard request.caller.covers(appId) else { return .html("Unauthorized", status: 401) }
    do throws(ActionError) {
      try await perform(action, appId, ServiceSelection(), request)
      let service = try await engine.freshCurrentApps().first { $0.appId == appId }?.services.first
      return .json(["containerId": JSON(service?.container?.id)])
    } catch {
      switch error {
      case .appNotFound: return .html(error.description, status: 400)
      case .serviceNotFound: return .html(Self.needsService, status: 400)
      case .serviceNotInTarget: return .html(error.description, status: 404)
      case .engine(let engineError) where engineError.statusCode == 404: return .empty(404)
      default: return failed(error, request)
      }
    }
  }

  // MARK: v2

  private func named(_ action: Action, _ request: Request) async -> Response {
    guard let appId = request.appId, appId != 0 else { return .failure("Invalid app id", status: 400) }
    guard request.caller.covers(appId) else { return .failure("Unauthorized", status: 401) }
    let name = Coercions.text(request.json["serviceName"])
    let imageId = Coercions.integer(request.json["imageId"]).flatMap { $0 == 0 ? nil : $0 }
    guard name != nil || imageId != nil else { return .html(Self.needsService, status: 400) }
    do throws(ActionError) {
      try await perform(action, appId, ServiceSelection(name: name, imageId: imageId), request)
      return .html("OK")
    } catch {
      switch error {
      case .appNotFound, .serviceNotFound, .serviceNotInTarget:
        return .html(error.description, status: 404)
      case .engine(let engineError) where engineError.statusCode == 404: return .empty(404)
      case .engine(let engineError) where engineError.statusCode == 400: return .empty(400)
      default: return failed(error, request)
      }
    }
  }
}
