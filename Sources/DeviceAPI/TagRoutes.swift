import HTTP
import JSON

// Tags of the device (http-api 5.9, 5.10).
extension DeviceAPI {
  var tagRoutes: [APIRoute] {
    [
      .awaiting(.get, "/v2/device/tags", .any) { [unowned self] _ in await tags() },
      APIRoute(.patch, "/v2/device/tags", .any) { [unowned self] request in setTags(request) },
    ]
  }

  private func tags() async -> Response {
    do throws(HostFailure) {
      let tags = try await host.deviceTags()
      return .success([
        "tags": .array(
          tags.map { ["id": .int($0.id), "name": .string($0.name), "value": .string($0.value)] })
      ])
    } catch {
      return .failure(error.message, status: 500)
    }
  }

  /// Answers at once; the cloud learns of it later.
  private func setTags(_ request: Request) -> Response {
    guard case .object(let members) = request.json else { return Self.invalidTags }
    var tags: [String: String] = [:]
    for (name, value) in members {
      guard let text = value.stringValue else { return Self.invalidTags }
      guard !name.unicodeScalars.contains(where: \.properties.isWhitespace) else {
        return .failure("Tag keys cannot contain whitespace", status: 400)
      }
      tags[name] = text
    }
    do throws(HostFailure) {
      try host.setDeviceTags(tags)
      return .success(status: 202)
    } catch {
      return .failure(error.message, status: 500)
    }
  }

  private static var invalidTags: Response {
    .failure("Invalid tags body, must be an object like `{[tagKey: string]: string}`", status: 400)
  }
}
