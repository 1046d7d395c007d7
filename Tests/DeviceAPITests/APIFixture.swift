import Database
import DeviceAPI
import Engine
import EventLoop
import Glibc
import HTTP
import HTTPClient
import JSON
import Logging
import Model
import StateEngine
import TestSupport
import Testing

/// The real API on a real socket, over a state engine whose engine is not there unless a test names
/// one: every answer has to come without it.
final class APIFixture {
  let store: Store
  let engine: StateEngine
  let api: DeviceAPI
  let server: Server
  let host = FixtureHost()
  private let socket: String
  let directory: String

  /// - Parameter address: `unix:///…` of an engine.
  init(engine address: String? = nil) throws {
    LoopDriver.start()
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    directory = "/tmp/device-api-tests-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    mkdir(directory, 0o700)
    socket = "\(directory)/api.sock"
    store = try Store.inMemory()
    engine = StateEngine(
      engine: EngineClient(address.flatMap(EngineEndpoint.init) ?? .unix("\(directory)/no-engine.sock")),
      store: store,
      locks: UpdateLocks(hostRoot: directory), host: host, logger: logger)
    api = DeviceAPI(engine: engine, client: nil, host: host, logger: logger)
    server = Server(pipeline: api.pipeline)
    try server.listen(on: .unix(path: socket))
  }

  func end() async {
    await server.stop()
    unlink(socket)
    _ = try? await ChildProcess.run("/bin/rm", ["-r", directory], timeout: .seconds(30))
  }

  struct Answer {
    var status: Int
    var contentType: String?
    var body: String
    var headers: [String: String]
    var allHeaders = HeaderFields()

    var json: JSON { (try? JSON(parsing: body)) ?? .null }
  }

  func send(
    _ method: String, _ path: String, headers: [(name: String, value: String)] = [], body: String? = nil
  ) async throws -> Answer {
    let request = ClientRequest(
      method, "http://device\(path)", unixSocket: socket, headers: headers,
      body: body.map { .bytes(Array($0.utf8)) } ?? .none)
    let response = try await HTTPClient.shared.send(request)
    return Answer(
      status: response.status, contentType: response.headers["Content-Type"],
      body: String(decoding: response.body, as: UTF8.self),
      headers: ["Allow": response.headers["Allow"] ?? ""], allHeaders: response.headers)
  }

  func post(_ path: String, _ json: String) async throws -> Answer {
    try await send("POST", path, headers: [("Content-Type", "application/json")], body: json)
  }

  /// Runs a test with a fixture and ends it whatever happens.
  static func with(_ body: (APIFixture) async throws -> Void) async throws {
    let fixture = try APIFixture()
    do { try await body(fixture) } catch {
      await fixture.end()
      throw error
    }
    await fixture.end()
  }
}

/// A device of fixed facts.
final class FixtureHost: @MainActor StateEngineHost, @MainActor DeviceAPIHost {
  var isAuthorizationRequired = false
  var isLocalMode = true
  var isHealthy = true
  let version = "19.0.5"
  var deviceName = "blue-sky"
  let deviceType = "raspberrypi4-64"
  let architecture = "aarch64"
  let deviceUuid = "0123456789abcdef0123456789abcdef"
  let targetSource = "local"
  let isLockOverridden = false
  let pollInterval = Duration.seconds(900)
  let rebootState = RebootState()
  let isExtraFirmwareNamed = true
  var effectiveConfig: [String: String] = ["SUPERVISOR_LOCAL_MODE": "true"]
  private(set) var storedConfigs: [[String: String]] = []
  var deviceFacts = DeviceFacts()
  var deviceFactsRevision: UInt64 = 0
  var areInstantUpdatesEnabled = true
  private(set) var updates: [String] = []
  private(set) var keyChanges = 0
  var tagsResult: Result<[DeviceTag], HostFailure> = .success([])
  private(set) var tags: [String: String] = [:]
  var vpnResult: Result<VPNStatus, HostFailure> = .success(VPNStatus(isEnabled: true, isConnected: false))
  var isHostUpdatePending = false

  func update(force: Bool, cancel: Bool) { updates.append("force \(force) cancel \(cancel)") }
  func globalKeyChanged() { keyChanges += 1 }
  func deviceTags() async throws(HostFailure) -> [DeviceTag] { try tagsResult.get() }
  func setDeviceTags(_ tags: [String: String]) throws(HostFailure) { self.tags = tags }
  func vpnStatus() async throws(HostFailure) -> VPNStatus { try vpnResult.get() }

  func mappingContext(supervisorGateway: String?) -> MappingContext {
    MappingContext(deviceUuid: deviceUuid, osVersion: "balenaOS 6.1.2", hostName: "host")
  }
  var contractFacts: ContractFacts {
    ContractFacts(agentVersion: version, deviceType: deviceType, architecture: architecture)
  }
  func supervisorAPIKey(appId: Int, service: String) -> String? { "key" }
  func targetStored(config: [String: String]) { storedConfigs.append(config) }
  func nameExtraFirmwareVolume() throws(StepError) {}
  func scheduleReboot(service: String) throws(StepError) {}
  func reboot(force: Bool) async throws(StepError) {}
  func powerOff(force: Bool) async throws(StepError) {}
  private(set) var reports: [String] = []
  func report(_ event: SystemEvent, text: String, isError: Bool) { reports.append(text) }
  func registryCredentials(registry: String) -> RegistryCredentials? { nil }
  var deltaSettings: DeltaSettings? { nil }
  func pathOnHost(_ path: String) -> String? { nil }
  var directory = "/nowhere"
  func serviceDirectory(appId: Int, service: String) -> String { directory }
}
