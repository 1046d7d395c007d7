import Database
import HTTPClient
import HostConfiguration
import JSON
import TestSupport

@testable import Cloud

/// A device whose cloud nobody plays: what the link decides by itself.
final class CloudFixture: CloudHost {
  let scratch = Scratch()
  let store: Store
  let settings: Settings
  let client: CloudClient
  var logged: [String] = []
  var taken: [JSON] = []
  var applied = 0
  var refusal: TargetRefusal?
  var refused = 0
  var currentConfiguration: [String: String] = [:]

  init(_ config: String = "{}") async throws {
    LoopDriver.start()
    store = try Store.inMemory()
    write(config, to: scratch.file("config.json"))
    let file = try await ConfigFile(
      path: scratch.file("config.json"), bootDirectory: "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    settings = Settings(file: file, store: store, logger: quiet)
    client = CloudClient(settings: settings, http: HTTPClient(), logger: quiet) { "test" }
  }

  /// What somebody else writes to config.json.
  func join(_ config: String) async {
    write(config, to: scratch.file("config.json"))
    await settings.reloadConfigFile()
  }

  var version: String { "1.2.3" }
  var deviceType: String { "test" }
  var isLocalMode: Bool { false }
  var isTargetStored: Bool { !taken.isEmpty }

  func takeTarget(_ document: JSON, force: Bool) throws(TargetRefusal) {
    if let refusal {
      refused += 1
      throw refusal
    }
    taken.append(document)
  }
  func applyTarget(force: Bool, cancel: Bool) { applied += 1 }

  var deviceFields: JSONObject { [:] }
  func metrics() async -> JSONObject { [:] }
  var reportedApps: JSONObject? { nil }
  func systemLog(_ text: String, isError: Bool) { logged.append(text) }
  var formerIdentityPath: String { scratch.file("former-identities.json") }
  var reportCachePath: String { scratch.file("state-report-cache") }
}
