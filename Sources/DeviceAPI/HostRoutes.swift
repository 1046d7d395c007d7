import HTTP
import JSON

// What the API does to the host itself (http-api 4.3, 4.11, 4.12).
extension DeviceAPI {
  var hostRoutes: [APIRoute] {
    [
      APIRoute(.post, "/v1/blink", .any, readsBody: false) { _ in .text("") },
      APIRoute(.get, "/v1/device/host-config", .any) { [unowned self] request in
        failed("Not available yet", request)
      },
      APIRoute(.patch, "/v1/device/host-config", .any) { _ in .html("Not available yet", status: 503) },
    ]
  }
}
