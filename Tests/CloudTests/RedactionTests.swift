import HTTPClient
import Testing

@testable import Cloud

/// A server that repeats what it was sent brings no key into the log.
struct RedactionTests {
  private static let key = "0123456789abcdef0123456789abcdef"
  private static let secret = "fedcba9876543210fedcba9876543210"

  @Test(arguments: [0, 150, 180, 199, 260])
  func keysAreHiddenWhereverTheTextIsCut(distance: Int) async throws {
    let device = try await CloudFixture(#"{"deviceApiKey":"\#(Self.key)"}"#)
    device.client.furtherKeys = { [Self.secret] }
    for key in [Self.key, Self.secret] {
      let text = String(repeating: "x", count: distance) + key + " end"
      let answer = CloudAnswer(status: 400, headers: HeaderFields(), body: Array(text.utf8))
      let message = device.client.failure(answer, of: "PATCH /x").message
      #expect(message.hasPrefix("PATCH /x: 400"))
      #expect(!message.contains(key.prefix(4)), "\(message)")
      #expect(message.count < 230)
    }
  }

  @Test func aTextOfKeysOnlyShowsNoneOfThem() async throws {
    let device = try await CloudFixture(#"{"deviceApiKey":"\#(Self.key)"}"#)
    let text = String(repeating: Self.key, count: 2000)
    let answer = CloudAnswer(status: 500, headers: HeaderFields(), body: Array(text.utf8))
    let message = device.client.failure(answer, of: "GET /x").message
    #expect(message.contains("(hidden)") && !message.contains("0123"))
  }
}
