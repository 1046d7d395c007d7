import DeviceAPI
import HTTP
import JSON
import Testing

extension DeviceAPITests {
  @Suite struct DocumentTests {
    @Test func theDocumentThatIsServedIsThatOfTheRepository() async throws {
      let file = try JSON(parsing: try #require(Golden.text("docs/openapi.json")))
      try await APIFixture.with { api in
        let answer = try await api.send("GET", "/v2/openapi.json")
        #expect(answer.json == file, "run scripts/generate-openapi")
      }
    }

    @Test func theDocumentDescribesTheRoutesThatThereAre() throws {
      let document = try JSON(parsing: try #require(Golden.text("docs/openapi.json")))
      var described: [String] = []
      for (path, methods) in document["paths"]?.objectValue ?? [:] {
        for (method, operation) in methods.objectValue ?? [:] {
          let scope = operation["x-scope"]?.stringValue ?? ""
          described.append("\(method.uppercased()) \(path) \(scope)")
          let isOpen = operation["security"]?.arrayValue?.isEmpty ?? false
          #expect(isOpen == (scope == "open"), "\(path)")
          #expect(operation["responses"]?["401"] != nil || isOpen, "\(path)")
        }
      }
      let fixture = try APIFixture()
      let routes = fixture.api.routes.map { route in
        let path = route.path.split(separator: "/")
          .map { $0.hasPrefix(":") ? "{\($0.dropFirst())}" : "\($0)" }
        return "\(route.method.name) /\(path.joined(separator: "/")) \(route.scope.rawValue)"
      }
      #expect(described.sorted() == routes.sorted())
    }
  }
}
