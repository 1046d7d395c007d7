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
