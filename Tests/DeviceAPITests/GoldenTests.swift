import Database
import DeviceAPI
import HTTP
import HTTPClient
import JSON
import StateEngine
import TestSupport
import Testing

extension DeviceAPITests {
  @Suite struct GoldenTests {
    @Test func everyAnswerOfTheTableIsAsItStandsThere() async throws {
      try await APIFixture.with { api in
        for golden in Golden.wire where !golden.needsEngine { try await api.check(golden) }
      }
    }

    @Test func withoutAnEngineEachRouteSaysSoOrAnswersFromMemory() async throws {
      try await APIFixture.with { api in
        api.engine.start()
        let isKnown = await eventually { api.engine.engineProblem != nil }
        try #require(isKnown)
        for golden in Golden.noEngine { try await api.check(golden) }
      }
    }

    /// The endpoint index of the specification (http-api 1): each of its answers is in a table, or has a test
    /// of its own over a live socket where it needs surroundings that a table cannot give.
    @Test func everyAnswerOfTheEndpointIndexIsProven() throws {
      let fixture = try APIFixture()
      let routes = fixture.api.routes.map { "\($0.method.name) \($0.path)" }
      // Without what is not in the reference.
      let extensions = ["/v2/explain", "/v2/events", "/v2/metrics", "/v2/openapi.json"].map { "GET \($0)" }
      let index = Golden.index.map { "\($0["method"]?.stringValue ?? "") \($0["path"]?.stringValue ?? "")" }
      #expect(index.sorted() == routes.filter { !extensions.contains($0) }.sorted())
      #expect(index.count == 35)
      for row in Golden.index {
        for (answer, place) in row["answers"]?.objectValue ?? [:] {
          let isProven = try Golden.proves(place.stringValue ?? "", row, answer)
          #expect(isProven, "\(row["method"] ?? "") \(row["path"] ?? "") \(answer): \(place)")
        }
      }
    }

    @Test func aBrokenBodyIs503OnEveryRouteThatReadsOne() async throws {
      try await APIFixture.with { api in
        for row in Golden.routes where !row.isOutsideIndex {
          let answer = try await api.send(
            row.method, row.call, headers: [("Content-Type", "application/json")], body: "{")
          let name = "\(row.method) \(row.path)"
          if row.scope != "open", row.readsBody {
            #expect(answer.status == 503, "\(name)")
            #expect(answer.contentType == "application/json; charset=utf-8", "\(name)")
            #expect(answer.json["status"] == "failed", "\(name)")
          } else if row.scope != "own" {
            #expect(answer.status == 200, "\(name)")
          }
        }
      }
    }

    @Test func theTableHasARowForEachRouteInItsPlace() throws {
      let fixture = try APIFixture()
      let routes = fixture.api.routes.map { "\($0.method.name) \($0.path) \($0.scope.rawValue)" }
      let rows = Golden.routes.filter { !$0.isOutsideIndex }.map { "\($0.method) \($0.path) \($0.scope)" }
      #expect(routes.sorted() == rows.sorted())
    }

    nonisolated enum Key: CaseIterable, Sendable { case none, wrong, otherApp, app, global }

    /// Routes × keys × local mode, each against the row of the table.
    @Test(arguments: Key.allCases, [false, true])
    func everyRouteLetsInWhomTheTableSays(key: Key, isLocalMode: Bool) async throws {
      try await APIFixture.with { api in
        api.engine.start()
        let text: String?
        switch key {
        case .none: text = nil
        case .wrong: text = "0123456789abcdef"
        case .otherApp: text = try api.store.keys.key(app: 2, service: "main")
        case .app: text = try api.store.keys.key(app: 1, service: "main")
        case .global: text = try api.store.keys.globalKey()
        }
        api.host.isAuthorizationRequired = !isLocalMode
        api.host.isLocalMode = isLocalMode
        var headers: [(name: String, value: String)] = [("Content-Type", "application/json")]
        if let text { headers.append(("Authorization", "Bearer \(text)")) }
        let isValid = key != .none && key != .wrong
        for row in Golden.routes {
          let answer = try await api.send(row.callMethod, row.call, headers: headers, body: row.body)
          let name = "\(row.method) \(row.path)"
          let expected: RouteRow.Expected?
          if row.scope == "open" {
            expected = row.allowed
          } else if !isLocalMode, !isValid {
            expected = .init(status: 401, type: "text/plain; charset=utf-8", body: "Unauthorized")
          } else if row.scope == "own" {
            #expect(answer.status == (isValid ? 200 : 503), "\(name)")
            #expect(isValid ? answer.body.count == 64 : answer.json["message"] == "", "\(name)")
            // The key from now on.
            if isValid { headers[1].value = "Bearer \(answer.body)" }
            continue
          } else if !isLocalMode, key == .otherApp, let denied = row.denied {
            expected = denied
          } else {
            expected = isLocalMode ? row.allowedInLocalMode : row.allowed
            #expect(answer.status != 401, "\(name)")
          }
          guard let expected else { continue }
          #expect(answer.status == expected.status, "\(name)")
          #expect(answer.contentType == expected.type, "\(name)")
          if let body = expected.body, row.callMethod != "HEAD" { #expect(answer.body == body, "\(name)") }
        }
      }
    }
  }
}
