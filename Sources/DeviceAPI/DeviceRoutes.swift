import Database
import HTTP
import JSON
import StateEngine

// The device as a whole (http-api 4.8, 5.8, 5.11, 5.16).
extension DeviceAPI {
  var deviceRoutes: [APIRoute] {
    [
      APIRoute(.get, "/v1/device", .any) { [unowned self] request in
        if let problem = unreadable { return failed(problem, request) }
        return everyone.prepared.answer(.device, revision: engine.revision &+ host.deviceFactsRevision) {
          device()
        }
      },
      APIRoute(.get, "/v2/device/name", .any) { [unowned self] _ in
        .success(["deviceName": .string(host.deviceName)])
      },
      .awaiting(.get, "/v2/device/vpn", .any) { [unowned self] request in await vpn(request) },
      APIRoute(.get, "/v2/local/device-info", .any) { [unowned self] _ in
        .success(["info": ["arch": .string(host.architecture), "deviceType": .string(host.deviceType)]])
      },
    ]
  }

  /// Of one app only: a shape of the time when a device had one (http-api 15, row 18).
  private func device() -> Response {
    let facts = host.deviceFacts
    var body: JSONObject = ["api_port": .int(facts.listenPort)]
    if !facts.addresses.isEmpty { body["ip_address"] = .string(facts.addresses.joined(separator: " ")) }
    body["os_version"] = JSON(facts.osVersion)
    body["mac_address"] = JSON(facts.macAddresses)
    body["supervisor_version"] = .string(host.version)
    body["update_pending"] = .bool(engine.isUpdatePending)
    body["update_failed"] = .bool(engine.isUpdateFailed)
    body["update_downloaded"] = .bool(engine.isUpdateDownloaded)
    if let summary = engine.report.deviceSummary(commits: engine.commits) {
      if !engine.isApplying { body["commit"] = summary.commit.map(JSON.string) }
      if let status = summary.status {
        body["status"] = .string(status)
        body["download_progress"] = summary.progress.map(JSON.int) ?? .null
      }
    }
    return .json(.object(body))
  }

  private func vpn(_ request: Request) async -> Response {
    do throws(HostFailure) {
      let status = try await host.vpnStatus()
      return .success(["vpn": ["enabled": .bool(status.isEnabled), "connected": .bool(status.isConnected)]])
    } catch {
      return failed(error.message, request)
    }
  }
}
