import Database
import HTTP
import JSON
import Logging
import Model
import StateEngine

// What and who the agent is, and what it is told to do as a whole.
extension DeviceAPI {
  /// Routes that are never asked for a key (http-api 4.1, 4.2).
  var openRoutes: [APIRoute] {
    let ok = PreparedResponse(.html("OK"))
    let healthy = PreparedResponse(.text(""))
    return [
      APIRoute(.get, "/ping", .open) { _ in .prepared(ok) },
      APIRoute(.get, "/v1/healthy", .open) { [unowned self] _ in
        if host.isHealthy { return .prepared(healthy) }
        logger.error("Healthcheck failed")
        return .html("Unhealthy", status: 500)
      },
    ]
  }

  var systemRoutes: [APIRoute] {
    [
      APIRoute(.post, "/v1/regenerate-api-key", .own, readsBody: false) { [unowned self] request in
        regenerateKey(request)
      },
      APIRoute(.post, "/v1/update", .any) { [unowned self] request in update(request) },
      .awaiting(.post, "/v1/reboot", .any) { [unowned self] request in await goDown(.reboot, request) },
      .awaiting(.post, "/v1/shutdown", .any) { [unowned self] request in await goDown(.shutdown, request) },
      APIRoute(.get, "/v2/version", .any) { [unowned self] _ in
        .success(["version": .string(host.version)])
      },
    ]
  }

  /// Replaces the caller's own key (http-api 4.4). In local mode a valid one may be sent too.
  private func regenerateKey(_ request: Request) -> Response {
    do throws(DatabaseError) {
      guard let old = request.presentedKey, let new = try engine.store.keys.regenerate(old) else {
        return failed("", request)
      }
      if new.isGlobal { host.globalKeyChanged() }
      return .html(new.key)
    } catch {
      return failed(error.message, request)
    }
  }

  /// Answers before anything happens (http-api 4.5): the cloud calls whole fleets and does not wait.
  private func update(_ request: Request) -> Response {
    let isForced = request.isForced
    guard isForced || host.areInstantUpdatesEnabled else { return .text("Accepted", status: 202) }
    host.update(force: isForced, cancel: Coercions.isTruthy(request.json["cancel"]))
    return .empty(204)
  }

  /// http-api 4.6.
  private func goDown(_ action: PowerAction, _ request: Request) async -> Response {
    do throws(ActionError) {
      try await engine.goDown(action, force: request.isForced)
      return .data(status: 202)
    } catch {
      if !error.isLock { logger.error("Error on \(request.methodText) \(request.path): \(error)") }
      return .dataFailure(error.description, status: error.isLock ? 423 : 500)
    }
  }
}
