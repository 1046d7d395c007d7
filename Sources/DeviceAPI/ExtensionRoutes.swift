import HTTP

// Beyond the reference; documented in docs/api.md.
extension DeviceAPI {
  var extensionRoutes: [APIRoute] {
    [
      APIRoute(.get, "/v2/explain", .filter) { [unowned self] request in explain(request.caller) },
      APIRoute(.get, "/v2/events", .filter) { [unowned self] request in eventStream(request) },
      APIRoute(.get, "/v2/metrics", .any) { [unowned self] _ in metricsPage() },
      APIRoute(.get, "/v2/openapi.json", .any) { [unowned self] _ in document() },
    ]
  }
}
