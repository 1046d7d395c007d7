import JSON
import Journal
import Testing

@testable import DeviceAPI

struct JournalRequestTests {
  private func request(_ text: String = "{}", accept: String? = nil) throws -> JournalRequest {
    try JournalRequest(JSON(parsing: text), accept: accept, now: 1_700_000_000_000_000)
  }

  @Test(arguments: [
    ("text/event-stream", true), ("TEXT/Event-Stream", true), ("*/*, text/event-stream;q=0.5", true),
    ("text/event-stream;q=0, */*", false), ("text/event-stream; q=0.0", false), ("*/*", false),
    ("text/event-streams", false), ("text/event-stream;charset=utf-8", true),
  ])
  func anEventStreamIsSentToThoseWhoTakeOne(_ accept: String, _ isSent: Bool) throws {
    #expect((try request(accept: accept).query.format == .jsonSSE) == isSent)
  }

  @Test func cursorAndSinceExcludeEachOther() {
    #expect {
      try request(#"{"cursor":"s=1;i=1","since":"yesterday"}"#)
    } throws: { error in
      let message = (error as? JournalRequest.Refusal)?.message ?? ""
      return message.contains("cursor") && message.contains("since")
    }
  }

  @Test func aPlaceIsTakenAtOnceAndGivenBackOnce() {
    let places = StreamPlaces(limit: 2)
    let first = places.take()
    var second = places.take()
    #expect(second != nil)
    #expect(places.take() == nil)
    first?.giveBack()
    first?.giveBack()
    #expect(places.taken == 1)
    second = nil
    #expect(places.taken == 0)
  }
}
