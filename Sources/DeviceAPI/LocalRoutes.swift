import HTTP
import JSON
import Model
import StateEngine

// The target state of local mode (http-api 5.14, 5.15).
extension DeviceAPI {
  var localRoutes: [APIRoute] {
    [
      APIRoute(.get, "/v2/local/target-state", .filter) { [unowned self] request in
        localTarget(request.caller)
      },
      APIRoute(.post, "/v2/local/target-state", .any) { [unowned self] request in setLocalTarget(request) },
    ]
  }

  private func localTarget(_ caller: Caller) -> Response {
    var apps = JSONObject()
    for app in engine.targetApps where caller.covers(app.appId) { apps[String(app.appId)] = app.dump }
    return .success([
      "state": [
        "local": [
          "name": .string(host.deviceName), "config": JSON(host.effectiveConfig), "apps": .object(apps),
        ]
      ]
    ])
  }

  private func setLocalTarget(_ request: Request) -> Response {
    guard host.isLocalMode else {
      return .failure("Target state can only set when device is in local mode", status: 400)
    }
    do throws(TargetRejection) {
      try engine.setLocalTarget(request.json, force: request.isForced)
    } catch {
      return .failure(error.description, status: 400)
    }
    return .success(["message": "OK"])
  }
}
