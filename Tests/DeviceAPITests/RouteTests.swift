import JSON
import Testing

@Suite(.serialized) struct DeviceAPITests {}

extension DeviceAPITests {
  @Suite struct RouteTests {
    @Test func pingAnswersOKWithoutAKey() async throws {
      try await APIFixture.with { api in
        api.host.isAuthorizationRequired = true
        let answer = try await api.send("GET", "/PING/")
        #expect(answer.status == 200 && answer.body == "OK")
        #expect(answer.contentType == "text/html; charset=utf-8")
      }
    }

    @Test func healthIsAnEmptyTextOr500() async throws {
      try await APIFixture.with { api in
        let healthy = try await api.send("GET", "/v1/healthy")
        #expect(healthy.status == 200 && healthy.body.isEmpty)
        #expect(healthy.contentType == "text/plain; charset=utf-8")
        api.host.isHealthy = false
        let unhealthy = try await api.send("GET", "/v1/healthy")
        #expect(unhealthy.status == 500 && unhealthy.body == "Unhealthy")
        #expect(unhealthy.contentType == "text/html; charset=utf-8")
      }
    }

    @Test func factsOfAgentAndDeviceHaveTheirShapes() async throws {
      try await APIFixture.with { api in
        #expect(
          try await api.send("GET", "/v2/version").body == #"{"status":"success","version":"19.0.5"}"#)
        #expect(
          try await api.send("GET", "/v2/device/name").body
            == #"{"status":"success","deviceName":"blue-sky"}"#)
        let info = try await api.send("GET", "/v2/local/device-info")
        #expect(
          info.body
            == #"{"status":"success","info":{"arch":"aarch64","deviceType":"raspberrypi4-64"}}"#)
        #expect(info.contentType == "application/json; charset=utf-8")
      }
    }

    @Test func anEmptyDeviceHasAnEmptyState() async throws {
      try await APIFixture.with { api in
        let status = try await api.send("GET", "/v2/state/status")
        #expect(status.status == 200)
        #expect(status.json["containers"] == [] && status.json["images"] == [])
        #expect(status.json["overallDownloadProgress"] == .null && status.json["release"] == nil)
        #expect(try await api.send("GET", "/v2/applications/state").body == "{}")
        #expect(
          try await api.send("GET", "/v2/containerId").body == #"{"status":"success","services":{}}"#)
      }
    }

    @Test func aServiceThatIsNotThereIs503() async throws {
      try await APIFixture.with { api in
        for query in ["?serviceName=nope", "?service=nope", "?service="] {
          let answer = try await api.send("GET", "/v2/containerId\(query)")
          #expect(answer.status == 503)
          #expect(answer.body == #"{"status":"failed","message":"Could not find service with that name"}"#)
        }
      }
    }

    @Test(arguments: [
      ("9000", 409, "Application ID does not exist: 9000"),
      ("123invalid", 400, "Invalid application ID: 123invalid"), ("0", 400, "Invalid application ID: 0"),
      ("1e3", 400, "Invalid application ID: 1e3"), ("%ZZ", 503, "Failed to decode param '%ZZ'"),
    ])
    func anAppStateIsRefusedWithTheTextOfTheChapter(id: String, status: Int, message: String) async throws {
      try await APIFixture.with { api in
        let answer = try await api.send("GET", "/v2/applications/\(id)/state")
        #expect(answer.status == status)
        #expect(answer.json == ["status": "failed", "message": .string(message)])
      }
    }

    @Test func unknownPathsAndMethodsGetTheHTMLPage() async throws {
      try await APIFixture.with { api in
        for (method, path) in [("GET", "/nope"), ("POST", "/v2/version"), ("GET", "/v3/x?apikey=secret")] {
          let answer = try await api.send(method, path)
          #expect(answer.status == 404 && answer.contentType == "text/html; charset=utf-8")
          let shown = path.prefix { $0 != "?" }
          #expect(answer.body.contains("<pre>Cannot \(method) \(shown)</pre>"))
          #expect(!answer.body.contains("secret"))
        }
      }
    }

    @Test func optionsListTheMethods() async throws {
      try await APIFixture.with { api in
        let answer = try await api.send("OPTIONS", "/v2/local/target-state")
        #expect(answer.status == 200 && answer.headers["Allow"] == answer.body)
        #expect(Set(answer.body.split(separator: ",")) == ["GET", "HEAD", "POST"])
      }
    }
  }
}
