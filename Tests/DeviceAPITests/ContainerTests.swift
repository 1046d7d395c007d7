import DeviceAPI
import Engine
import EventLoop
import Glibc
import HTTP
import HTTPClient
import JSON
import Model
import StateEngine
import TestSupport
import Testing

/// `unix:///…` of the test device's engine.
nonisolated private let testEngine: String? = getenv("SUPERVISOR_TEST_ENGINE").map { String(cString: $0) }

extension DeviceAPITests {
  /// The rows that need running services, in process on the engine of the test device.
  @Suite(.enabled(if: testEngine != nil, "SUPERVISOR_TEST_ENGINE is not set: run `make test`"))
  struct ContainerTests {
    private static let image = "device-api-test:1"
    private static let command = """
      ["sh","-c","trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]
      """

    private static func service(_ name: String, _ number: Int) -> String {
      """
      {"serviceName":"\(name)","imageId":\(number),"image":"\(image)","environment":{},"labels":{},
       "command":\(command),"restart":"always"}
      """
    }

    /// App 1 has one service, app 2 two.
    private static let twoApps = """
      {"local":{"name":"local","config":{},"apps":{
        "1":{"name":"app1","commit":"c0ffee01","releaseId":1,"volumes":{},"networks":{},
             "services":{"1":\(service("main", 1))}},
        "2":{"name":"app2","commit":"c0ffee02","releaseId":2,"volumes":{},"networks":{},
             "services":{"1":\(service("one", 21)),"2":\(service("two", 22))}}}}}
      """

    @Test func everyAnswerOfTheTableIsAsItStandsThere() async throws {
      let address = try #require(testEngine)
      let script = try #require(Golden.path("scripts/make-test-image"))
      let made = try await ChildProcess.run(script, [address, Self.image], timeout: .seconds(120))
      try #require(made.isSuccess, "\(String(decoding: made.errorOutput, as: UTF8.self))")
      let engine = EngineClient(try #require(EngineEndpoint(address)))
      let api = try APIFixture(engine: address)
      var failure: (any Error)?
      do { try await walk(api, engine) } catch { failure = error }
      // Nothing of it is left for the tests that follow.
      _ = try? await api.post("/v2/local/target-state", #"{"local":{"name":"local","config":{},"apps":{}}}"#)
      let isGone = await eventually(within: .seconds(90)) {
        await containers(engine).isEmpty && !api.engine.isApplying
      }
      #expect(isGone, "the containers are removed")
      await api.end()
      try? await engine.removeImage(Self.image, force: true)
      try? await engine.removeNetwork("supervisor0")
      try? await engine.removeVolume("extra-firmware")
      if let failure { throw failure }
    }

    private func walk(_ api: APIFixture, _ engine: EngineClient) async throws {
      api.host.deviceName = "local"
      api.host.deviceFacts.osVersion = "Test OS 1.0"
      api.host.directory = "\(api.directory)/service"
      api.engine.start()
      let answer = try await api.post("/v2/local/target-state", Self.twoApps)
      try #require(answer.status == 200, "\(answer.body)")
      let isSettled = await eventually(within: .seconds(120)) {
        let status = try? await api.send("GET", "/v2/state/status").json
        return status?["appState"] == "applied" && api.engine.currentApps.flatMap(\.services).count == 3
      }
      try #require(isSettled)
      var variables: [String: String] = [:]
      for service in api.engine.currentApps.flatMap(\.services) {
        variables[service.name] = service.container?.id ?? ""
        // As the engine has it: by its id.
        variables["image"] = service.config.image
      }
      let locks = [("1", "main", "updates.lock"), ("2", "two", "resin-updates.lock")].map { app, name, file in
        "\(api.directory)/tmp/balena-supervisor/services/\(app)/\(name)/\(file)"
      }
      for lock in locks {
        let directory = lock.prefix(upTo: lock.lastIndex(of: "/") ?? lock.endIndex)
        _ = try await ChildProcess.run("/bin/mkdir", ["-p", String(directory)], timeout: .seconds(30))
        close(open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0o644))
      }
      for golden in Golden.containers {
        if golden.isUnlocked { for lock in locks { unlink(lock) } }
        try await api.check(golden, variables: variables)
      }
    }

    private func containers(_ engine: EngineClient) async -> [ContainerSummary] {
      do throws(EngineError) {
        return try await engine.listContainers(all: true, labels: ["io.balena.supervised"])
      } catch {
        return []
      }
    }
  }
}
