import Testing

@testable import HTTPClient

/// Messages of multicast DNS (RFC 6762, RFC 1035 section 4).
struct MulticastMessageTests {
  private static let id: UInt16 = 0x1234
  private static let name = "api.Board.local"
  private static let encoded: [UInt8] =
    [3] + Array("api".utf8) + [5] + Array("board".utf8) + [5] + Array("local".utf8) + [0]

  /// An answer to both questions with these records; their owner is a pointer to the first question.
  private static func answer(_ records: [(type: UInt8, data: [UInt8])], id: UInt16 = id) -> [UInt8] {
    var message: [UInt8] = [
      UInt8(id >> 8), UInt8(id & 0xFF), 0x84, 0, 0, 1, 0, UInt8(records.count), 0, 0, 0, 0,
    ]
    message += encoded + [0, 1, 0, 1]
    for record in records {
      message += [0xC0, 12, 0, record.type, 0x80, 1, 0, 0, 0, 10, 0, UInt8(record.data.count)] + record.data
    }
    return message
  }

  private static let address6: [UInt8] = [0xFD, 1] + Array(repeating: 0, count: 13) + [7]

  @Test func aQueryAsksForBothKindsOfAddress() {
    let plain: [UInt8] =
      [3] + Array("api".utf8) + [5] + Array("Board".utf8) + [5] + Array("local".utf8) + [0]
    #expect(
      MulticastMessage.query(Self.name, id: Self.id)
        == [0x12, 0x34, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0] + plain + [0, 1, 0, 1] + plain + [0, 28, 0, 1])
  }

  @Test(arguments: ["", ".local", "a..local", String(repeating: "x", count: 64) + ".local"])
  func whatIsNoNameIsNotAskedFor(name: String) {
    #expect(MulticastMessage.query(name, id: 1) == nil)
  }

  @Test func addressesOfTheOlderKindComeFirst() {
    let message = Self.answer([(28, Self.address6), (1, [10, 0, 0, 7])])
    #expect(
      MulticastMessage.addresses(in: message, for: Self.name, id: Self.id)
        == [[10, 0, 0, 7], Self.address6])
  }

  @Test func addressesOfOneLinkAreLeftOut() {
    let message = Self.answer([(28, [0xFE, 0x80] + Array(repeating: 1, count: 14))])
    #expect(MulticastMessage.addresses(in: message, for: Self.name, id: Self.id).isEmpty)
  }

  @Test func answersToOthersDoNotCount() {
    let message = Self.answer([(1, [10, 0, 0, 7])])
    #expect(MulticastMessage.addresses(in: message, for: "other.local", id: Self.id).isEmpty)
    #expect(MulticastMessage.addresses(in: message, for: Self.name, id: 1).isEmpty)
    var query = message
    query[2] = 0
    #expect(MulticastMessage.addresses(in: query, for: Self.name, id: Self.id).isEmpty)
  }

  @Test func aMessageThatIsCutShortSaysNothingWrong() {
    let message = Self.answer([(1, [10, 0, 0, 7])])
    for length in 0..<message.count {
      #expect(
        MulticastMessage.addresses(in: Array(message[..<length]), for: Self.name, id: Self.id).isEmpty)
    }
  }

  @Test func aNameThatPointsAtItselfEnds() {
    var message = Self.answer([(1, [10, 0, 0, 7])])
    let pointer = message.count - 16
    message[pointer + 1] = UInt8(pointer)
    #expect(MulticastMessage.addresses(in: message, for: Self.name, id: Self.id).isEmpty)
  }

  @Test func damagedMessagesDoNoHarm() {
    var random = SystemRandomNumberGenerator()
    let message = Self.answer([(28, Self.address6), (1, [10, 0, 0, 7])])
    for _ in 0..<5000 {
      var damaged = message
      for _ in 0..<4 { damaged[Int.random(in: 2..<damaged.count, using: &random)] = .random(in: 0...255) }
      #expect(MulticastMessage.addresses(in: damaged, for: Self.name, id: Self.id).count <= 2)
    }
  }
}
