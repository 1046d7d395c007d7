import Database
import Engine
import EventLoop
import HTTP
import HTTPClient
import JSON
import Model
import TestSupport

@testable import StateEngine

/// An engine of fixed answers, for what a real one does not do when asked to.
final class FixtureEngine {
  let client: EngineClient
  /// By path, below the version.
  var answers: [String: Response] = [:]
  /// Called for each request, before it is answered.
  var asked: (_ path: String) -> Void = { _ in }
  private let directory = Scratch()
  private var server: Server?

  init() throws {
    LoopDriver.start()
    client = EngineClient(.unix(directory.file("engine.sock")), client: HTTPClient())
    var pipeline = Pipeline()
    pipeline.routes = [
      "/containers/json", "/containers/:id/json", "/networks", "/networks/:id", "/volumes", "/images/json",
      "/images/:id/json",
    ].map { path in
      Route(.get, "/v\(EngineClient.apiVersion)\(path)") { [unowned self] request in
        let asked = path.replacing(":id", with: request.parameter("id") ?? "")
        self.asked(asked)
        return answers[asked] ?? .json(["message": "no such object"], status: 404)
      }
    }
    let server = Server(pipeline: pipeline)
    try server.listen(on: .unix(path: directory.file("engine.sock")))
    self.server = server
    answers["/containers/json"] = .json([])
    answers["/networks"] = .json([])
    answers["/volumes"] = .json(["Volumes": []])
    answers["/images/json"] = .json([])
  }

  func stop() async { await server?.stop() }

  static func fault(_ text: String = "layer is nil") -> Response {
    .json(["message": .string(text)], status: 500)
  }

  /// Lists these containers of app 1 and tells of each.
  func setContainers(_ services: [String: String]) {
    answers["/containers/json"] = .json(.array(services.keys.sorted().map { ["Id": .string($0)] }))
    for (id, name) in services {
      answers["/containers/\(id)/json"] = .json([
        "Id": .string(id), "Name": .string("/\(name)_1_1_c0ffee"),
        "State": ["Running": true, "Status": "running"],
        "Config": [
          "Labels": [
            "io.balena.supervised": "true", "io.balena.app-id": "1", "io.balena.service-id": "1",
            "io.balena.service-name": .string(name),
          ]
        ],
      ])
    }
  }
}

/// A device of fixed facts.
final class FixtureHost: @MainActor StateEngineHost {
  let targetSource = "local"
  let isLocalMode = true
  let pollInterval = Duration.seconds(900)
  let rebootState = RebootState()
  let deviceUuid = "0123456789abcdef0123456789abcdef"
  let contractFacts = ContractFacts(agentVersion: "1.0.0", deviceType: "generic", architecture: "aarch64")
  let isExtraFirmwareNamed = true
  let isLockOverridden = false
  let isHostUpdatePending = false
  let deviceName = "device"
  let deviceType = "generic"
  let deltaSettings: DeltaSettings? = nil

  func targetStored(config: [String: String]) {}
  func mappingContext(supervisorGateway: String?) -> MappingContext { Self.context }
  func supervisorAPIKey(appId: Int, service: String) -> String? { "key" }
  func nameExtraFirmwareVolume() throws(StepError) {}
  func scheduleReboot(service: String) throws(StepError) {}
  func reboot(force: Bool) async throws(StepError) {}
  func powerOff(force: Bool) async throws(StepError) {}
  func report(_ event: SystemEvent, text: String, isError: Bool) {}
  func registryCredentials(registry: String) -> RegistryCredentials? { nil }
  func pathOnHost(_ path: String) -> String? { nil }
  func serviceDirectory(appId: Int, service: String) -> String { "/nowhere" }

  static var context: MappingContext {
    MappingContext(deviceUuid: "0123456789abcdef0123456789abcdef", osVersion: "Test OS 1.0", hostName: "host")
  }
}

/// A row of the target: one app with one service of that image.
func storedTarget(image: String) -> StoredTargetApp {
  let service = TargetService(name: "main", serviceId: 1, imageId: 1, image: image)
  return TargetApp(
    appId: 1, uuid: uuid(1), name: "app1", source: "local",
    release: TargetRelease(commit: "c0ffee", id: 1, services: [service])
  ).stored
}
