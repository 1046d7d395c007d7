import Database
import JSON
import Testing

extension DeviceAPITests {
  @Suite struct TargetTests {
    static let twoApps = """
      {"local":{"name":"dev","config":{"SUPERVISOR_POLL_INTERVAL":"1000000"},"apps":{
        "1":{"name":"one","commit":"c1","releaseId":"1","services":{"1":{"serviceName":"main","imageId":1,
          "image":"busybox","environment":{"A":"b"},"labels":{}}},"volumes":{"v":{}},"networks":{}},
        "2":{"name":"two","commit":"c2","releaseId":2,"services":{}}}}}
      """

    @Test func aTargetIsStoredWithItsNameAndConfiguration() async throws {
      try await APIFixture.with { api in
        let answer = try await api.post("/v2/local/target-state", Self.twoApps)
        #expect(answer.status == 200 && answer.body == #"{"status":"success","message":"OK"}"#)
        let apps = try api.store.targets.apps(source: "local")
        #expect(apps.map(\.appId).sorted() == [1, 2])
        #expect(apps.first { $0.appId == 1 }?.commit == "c1")
        #expect(try api.store.targets.deviceName() == "dev")
        #expect(try api.store.targets.deviceConfig() == ["SUPERVISOR_POLL_INTERVAL": "1000000"])
        #expect(api.host.storedConfigs == [["SUPERVISOR_POLL_INTERVAL": "1000000"]])
      }
    }

    @Test func aBodyWithoutLocalClearsTheApps() async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", Self.twoApps)
        #expect(try await api.post("/v2/local/target-state", "{}").status == 200)
        #expect(try api.store.targets.apps(source: "local").isEmpty)
      }
    }

    @Test(arguments: [
      (#"{"local":{"config":{"A":1}}}"#, "Invalid target state."),
      (#"{"local":{"apps":{"1":null}}}"#, "Invalid target state."),
      (#"{"local":{"apps":{"x":{"name":"a"}}}}"#, "Invalid target state."),
      (
        #"{"local":{"apps":{"1":{"name":"a","commit":"c","releaseId":1,"services":{"1":{}}}}}}"#,
        "Invalid target state."
      ),
      (#"{"local":[]}"#, "Invalid target state."),
    ])
    func anInvalidTargetIsRefusedAndNothingOfItStored(body: String, firstLine: String) async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", Self.twoApps)
        let answer = try await api.post("/v2/local/target-state", body)
        #expect(answer.status == 400)
        #expect(answer.json["status"] == "failed")
        let message = try #require(answer.json["message"]?.stringValue)
        #expect(message.hasPrefix(firstLine), "\(message)")
        #expect(try api.store.targets.apps(source: "local").count == 2)
      }
    }

    private static func target(_ services: String) -> String {
      """
      {"local":{"apps":{"1":{"name":"one","commit":"c2","releaseId":2,"services":{\(services)}},
        "2":{"name":"two","commit":"c2","releaseId":2,"services":{}}}}}
      """
    }

    private static func service(_ id: Int, _ name: String, _ more: String) -> String {
      """
      "\(id)":{"serviceName":"\(name)","imageId":1,"image":"busybox","environment":{},"labels":{},\(more)}
      """
    }

    @Test func aCircleOfDependenciesIsRefusedAndSpelledOut() async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", Self.twoApps)
        let services = [
          Self.service(1, "a", #""depends_on":["b"]"#), Self.service(2, "b", #""network_mode":"service:a""#),
        ]
        let answer = try await api.post(
          "/v2/local/target-state", Self.target(services.joined(separator: ",")))
        let line = """
          Expecting services that do not wait for each other at \(api.host.deviceUuid).apps.1.releases.c2.services \
          but instead got: a -> b -> a
          """
        #expect(answer.status == 400)
        #expect(answer.json == ["status": "failed", "message": .string("Invalid target state.\n" + line)])
        #expect(api.host.reports == ["Could not move to new release: Invalid target state.", line])
        #expect(try api.store.targets.apps(source: "local").first { $0.appId == 1 }?.commit == "c1")
      }
    }

    @Test func aMalformedContractIsRefused() async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", Self.twoApps)
        let service = Self.service(1, "a", #""contract":{"requires":[{"type":"hw.led"}]}"#)
        let answer = try await api.post("/v2/local/target-state", Self.target(service))
        let text =
          "The contract for service a failed validation, with error: hw.led is not a valid contract requirement type"
        #expect(answer.status == 400)
        #expect(answer.json == ["status": "failed", "message": .string(text)])
        #expect(api.host.reports == ["Could not move to new release: " + text])
        #expect(try api.store.targets.apps(source: "local").first { $0.appId == 1 }?.commit == "c1")
      }
    }

    @Test func anAppWhoseContractIsNotMetIsStoredAsRejectedAndReportedAsSuch() async throws {
      try await APIFixture.with { api in
        let contract = #""contract":{"requires":[{"type":"arch.sw","slug":"amd64"}]}"#
        let answer = try await api.post(
          "/v2/local/target-state", Self.target(Self.service(1, "a", contract)))
        #expect(answer.status == 200)
        #expect(
          api.host.reports == [
            """
            Some releases were rejected due to having unmet requirements:
              one: Services with unmet requirements: a
            """
          ])
        let stored = try api.store.targets.apps(source: "local")
        #expect(stored.filter(\.isRejected).map(\.appId) == [1] && stored.count == 2)
        #expect(try api.store.targets.isSet())

        let accepted = #""contract":{"requires":[{"type":"arch.sw","slug":"aarch64"}]}"#
        _ = try await api.post("/v2/local/target-state", Self.target(Self.service(1, "a", accepted)))
        #expect(try api.store.targets.apps(source: "local").filter(\.isRejected).isEmpty)
      }
    }

    @Test func anOptionalServiceWhoseContractIsNotMetIsLeftOut() async throws {
      try await APIFixture.with { api in
        let unmet = """
          "1":{"serviceName":"a","imageId":1,"image":"busybox","environment":{},
            "labels":{"io.balena.features.optional":"1"},
            "contract":{"requires":[{"type":"sw.supervisor","version":"<19"}]}}
          """
        let met = Self.service(2, "b", #""contract":{"requires":[{"type":"sw.supervisor","version":"^19"}]}"#)
        let answer = try await api.post("/v2/local/target-state", Self.target("\(unmet),\(met)"))
        #expect(answer.status == 200)
        #expect(api.host.reports == ["Not running containers because of contract violations: a"])
        let app = try #require(try api.store.targets.apps(source: "local").first { $0.appId == 1 })
        #expect(!app.isRejected)
        #expect(try JSON(parsing: app.services).arrayValue?.map { $0["serviceName"] } == ["b"])
      }
    }

    @Test(arguments: ["{", "[1,", "null", "1", #""text""#])
    func aBodyThatIsNoObjectOrArrayIs503(body: String) async throws {
      try await APIFixture.with { api in
        let answer = try await api.post("/v2/local/target-state", body)
        #expect(answer.status == 503 && answer.json["status"] == "failed")
        #expect(try api.store.targets.isSet() == false)
      }
    }

    @Test func outsideLocalModeATargetIsRefused() async throws {
      try await APIFixture.with { api in
        api.host.isLocalMode = false
        let answer = try await api.post("/v2/local/target-state", Self.twoApps)
        #expect(answer.status == 400)
        #expect(answer.json["message"] == "Target state can only set when device is in local mode")
      }
    }

    @Test func theTargetIsGivenBackSoThatItCanBePostedAgain() async throws {
      try await APIFixture.with { api in
        let state = try #require(try await api.send("GET", "/v2/local/target-state").json["state"])
        #expect(state["local"]?["name"] == "blue-sky")
        #expect(state["local"]?["config"]?["SUPERVISOR_LOCAL_MODE"] == "true")
        #expect(state["local"]?["apps"] == [:])
        #expect(try await api.post("/v2/local/target-state", state.serialized()).status == 200)
      }
    }
  }
}
