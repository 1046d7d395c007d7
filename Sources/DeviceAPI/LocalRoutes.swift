import HTTP
import JSON
import Model
import StateEngine

// The target state of local mode (http-api 5.14, 5.15).
extension DeviceAPI {
  var localRoutes: [Route] {
    [
      Route(.get, "/v2/local/target-state") { [unowned self] request in localTarget(request.caller) },
      Route(.post, "/v2/local/target-state") { [unowned self] request in setLocalTarget(request) },
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
    do throws(BodyError) {
      let body = try request.parsedBody()
      do throws(TargetRejection) {
        try engine.setLocalTarget(body, force: Coercions.isTruthy(body["force"]))
      } catch {
        return .failure(error.description, status: 400)
      }
    } catch {
      return .failure(error.message, status: 503)
    }
    return .success(["message": "OK"])
  }
}
