public import HostConfiguration
import HTTP
public import JSON
import Logging

// What the API does to the host itself (http-api 4.3, 4.11, 4.12).
extension DeviceAPI {
  var hostRoutes: [APIRoute] {
    [
      APIRoute(.post, "/v1/blink", .any, readsBody: false) { [unowned self] _ in
        host.hostControl?.blink()
        return .text("")
      },
      APIRoute(.get, "/v1/device/host-config", .any) { [unowned self] request in hostConfig(request) },
      .awaiting(.patch, "/v1/device/host-config", .any) { [unowned self] request in
        await changeHostConfig(request)
      },
    ]
  }

  private func hostConfig(_ request: Request) -> Response {
    guard let control = host.hostControl else { return failed(Self.noControl, request) }
    do throws(HostFailure) { return .json(try control.hostConfig()) } catch {
      return failed(error.message, request)
    }
  }

  private func changeHostConfig(_ request: Request) async -> Response {
    guard let control = host.hostControl else { return .html(Self.noControl, status: 503) }
    let change: HostConfigRequest
    do throws(HostConfigRequest.InputError) { change = try HostConfigRequest(parsing: request.json) } catch {
      if request.json["network"] == nil { logger.warning("Key 'network' must exist in PATCH body") }
      return .html(error.description, status: 400)
    }
    for warning in change.warnings { logger.warning("\(warning)") }
    do throws(HostConfigFailure) {
      try await control.changeHostConfig(change)
      return .html("OK")
    } catch {
      logger.error("Error on \(request.methodText) \(request.path): \(error.message)")
      return .html(error.message.isEmpty ? "Unknown error" : error.message, status: error.isLock ? 423 : 503)
    }
  }

  private static let noControl = "The host cannot be configured"
}

/// The host as the API controls it.
public protocol HostControl: AnyObject {
  /// Makes the device's light blink; returns at once, also where there is no light.
  func blink()
  /// `{"network":{"hostname":…,"proxy":…}}`
  func hostConfig() throws(HostFailure) -> JSON
  func changeHostConfig(_ request: HostConfigRequest) async throws(HostConfigFailure)
}

/// Why the host's configuration was not, or not wholly, changed.
public nonisolated struct HostConfigFailure: Error, Sendable {
  public let message: String
  /// Update locks are in the way.
  public let isLock: Bool

  public init(_ message: String, isLock: Bool = false) {
    self.message = message
    self.isLock = isLock
  }
}

extension DeviceAPIHost {
  public var hostControl: (any HostControl)? { nil }
}
