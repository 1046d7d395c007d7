import HTTP
import JSON

// What and who the agent is.
extension DeviceAPI {
  var systemRoutes: [Route] {
    [
      Route(.get, "/v2/version") { [unowned self] _ in .success(["version": .string(host.version)]) },
      Route(.get, "/v2/device/name") { [unowned self] _ in
        .success(["deviceName": .string(host.deviceName)])
      },
      Route(.get, "/v2/local/device-info") { [unowned self] _ in
        .success([
          "info": ["arch": .string(host.architecture), "deviceType": .string(host.deviceType)]
        ])
      },
    ]
  }
}
