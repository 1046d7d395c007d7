import Database
import HTTP
import JSON
import StateEngine
import Testing

@testable import DeviceAPI

extension DeviceAPITests {
  @Suite struct PreparedAnswerTests {
    // The other prepared answers say that the engine cannot be read once that is known.
    @Test(arguments: ["/v1/device"])
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
  }
}
