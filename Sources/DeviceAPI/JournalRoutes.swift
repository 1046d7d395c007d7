import HTTP
import JSON

// Logs (http-api 5.17, 10).
extension DeviceAPI {
  var journalRoutes: [APIRoute] {
    [
      APIRoute(.post, "/v2/journal-logs", .any) { [unowned self] request in
        failed("Not available yet", request)
      },
      APIRoute(.get, "/v2/local/logs", .any) { _ in
        .stream { writer in
          try? await writer.write("{\"message\":\"Streaming logs\",\"isSystem\":true}\n")
          while writer.isOpen, !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) }
        }
      },
    ]
  }
}
