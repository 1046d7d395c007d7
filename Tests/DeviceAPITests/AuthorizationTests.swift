import Database
import JSON
import Testing

extension DeviceAPITests {
  @Suite struct AuthorizationTests {
    private let path = "/v2/version"

    @Test func withoutAKeyEverythingButTheOpenRoutesIs401() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        for (method, path) in [
          ("GET", path), ("GET", "/nope"), ("POST", "/ping"), ("OPTIONS", "/ping"),
          ("POST", "/v2/local/target-state"),
        ] {
          let answer = try await api.send(method, path)
          #expect(answer.status == 401 && answer.body == "Unauthorized")
          #expect(answer.contentType == "text/plain; charset=utf-8")
        }
      }
    }

    @Test func abrokenBodyWithoutAKeyIs401() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        let answer = try await api.post("/v2/local/target-state", "{")
        #expect(answer.status == 401)
      }
    }

    @Test func theKeyMayStandInQueryOrHeader() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        let key = try api.store.keys.globalKey()
        #expect(try await api.send("GET", "\(path)?apikey=\(key)").status == 200)
        for scheme in ["ApiKey", "Bearer", "bearer", "APIKEY"] {
          let answer = try await api.send("GET", path, headers: [("Authorization", "\(scheme) \(key)")])
          #expect(answer.status == 200, "\(scheme)")
        }
        for value in ["Basic \(key)", "Bearer  \(key)", "Bearer \(key) ", "Bearer", key, "Bearer \(key)x."] {
          let answer = try await api.send("GET", path, headers: [("Authorization", value)])
          // A field's trailing blanks do not belong to its value.
          #expect(answer.status == (value.hasSuffix("\(key) ") ? 200 : 401), "\(value.count)")
        }
      }
    }

    @Test func aKeyInTheQueryRulesEvenWhenItIsWrong() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        let key = try api.store.keys.globalKey()
        let header = [(name: "Authorization", value: "Bearer \(key)")]
        #expect(try await api.send("GET", "\(path)?apikey=wrong", headers: header).status == 401)
        for ignored in ["apikey=", "apikey=a&apikey=b", "apikey[]=a", "APIKEY=a"] {
          #expect(
            try await api.send("GET", "\(path)?\(ignored)", headers: header).status == 200, "\(ignored)")
        }
      }
    }

    @Test func aKeyOfOneAppSeesNoOther() async throws {
      try await APIFixture.with { api in
        _ = try await api.post("/v2/local/target-state", TargetTests.twoApps)
        api.host.isAuthorizationRequired = true
        let key = try api.store.keys.key(app: 1, service: "main")
        let state = try await api.send("GET", "/v2/applications/2/state?apikey=\(key)")
        #expect(state.status == 409)
        #expect(state.json["message"] == "Application ID does not exist: 2")
      }
    }

    @Test func aRegeneratedKeyIsRefusedAtOnce() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        let old = try api.store.keys.globalKey()
        let new = try #require(try api.store.keys.regenerate(old)).key
        #expect(try await api.send("GET", "\(path)?apikey=\(old)").status == 401)
        #expect(try await api.send("GET", "\(path)?apikey=\(new)").status == 200)
      }
    }
  }
}
