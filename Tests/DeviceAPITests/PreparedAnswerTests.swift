import Database
import HTTP
import JSON
import StateEngine
import Testing

@testable import DeviceAPI

extension DeviceAPITests {
  @Suite struct PreparedAnswerTests {
    @Test(arguments: ["/v1/device", "/v2/state/status", "/v2/applications/state"])
    func anAnswerIsMadeOnceUntilTheStateChanges(path: String) async throws {
      try await APIFixture.with { api in
        let prepared = api.api.everyone.prepared
        var bodies: Set<String> = []
        for _ in 0..<5 { bodies.insert(try await api.send("GET", path).body) }
        #expect(prepared.builds == 1 && bodies.count == 1)
        _ = try await api.post("/v2/local/target-state", TargetTests.twoApps)
        let before = prepared.builds
        for _ in 0..<5 { _ = try await api.send("GET", path) }
        #expect(prepared.builds == before + 1)
      }
    }

    @Test func allGlobalKeysShareAnAnswerAndAKeyOfAnAppHasItsOwn() async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", TargetTests.twoApps)
        api.host.isAuthorizationRequired = true
        let global = try api.store.keys.globalKey()
        let app = try api.store.keys.key(app: 1, service: "main")
        let all = try await api.send("GET", "/v2/applications/state?apikey=\(global)")
        let before = api.api.everyone.prepared.builds
        let own = try await api.send("GET", "/v2/applications/state?apikey=\(app)")
        #expect(api.api.everyone.prepared.builds == before)
        #expect(all.json.objectValue?.count == 2 && own.json.objectValue?.count == 1)
        #expect(try await api.send("GET", "/v2/applications/state?apikey=\(global)").body == all.body)
        #expect(api.api.everyone.prepared.builds == before)
      }
    }
  }
}
