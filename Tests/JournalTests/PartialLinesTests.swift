import EventLoop
import Testing

@testable import Journal

struct PartialLinesTests {
  private func add(
    _ lines: inout PartialLines, _ text: [UInt8], _ container: String, name: String? = "n",
    last: Bool = false, order: UInt64 = 1, seconds: Int = 0
  ) -> [[UInt8]] {
    let part = PartialLines.Part(
      stream: PartialLines.Stream(container: container, isError: false), name: name, isLast: last,
      timestamp: seconds * 1000, time: MonotonicTime(nanoseconds: UInt64(seconds) * 1_000_000_000))
    return text.withUnsafeBufferPointer { text in
      lines.add(text, part) { PartialLines.Place(before: "cursor \(order)", order: order) }
    }.map(\.bytes)
  }

  private func add(
    _ lines: inout PartialLines, _ text: String, _ container: String, name: String? = "n",
    last: Bool = false, order: UInt64 = 1, seconds: Int = 0
  ) -> [String] {
    add(
      &lines, Array(text.utf8), container, name: name, last: last, order: order, seconds: seconds
    ).map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func partsOfDifferentStreamsDoNotMix() {
    var lines = PartialLines()
    #expect(add(&lines, "a", "1") == [])
    #expect(add(&lines, "b", "2") == [])
    #expect(add(&lines, "A", "1", last: true) == ["aA"])
    #expect(add(&lines, "B", "2", last: true) == ["bB"])
    #expect(lines.count == 0)
  }

  @Test func anotherLineOfTheStreamEndsTheFormer() {
    var lines = PartialLines()
    #expect(add(&lines, "a", "1", name: "one") == [])
    #expect(add(&lines, "b", "1", name: "two") == ["a"])
    #expect(add(&lines, "c", "1", name: "three", last: true) == ["b", "c"])
    #expect(lines.count == 0)
  }

  @Test func aLineThatIsTooLongBecomesSeveral() {
    var lines = PartialLines()
    let part = String(repeating: "x", count: 16 * 1024)
    let whole = [String(repeating: part, count: 3)]
    for number in 0..<5 { #expect(add(&lines, part, "1") == (number == 3 ? whole : [])) }
    #expect(add(&lines, part, "1", last: true) == whole)
    #expect(lines.count == 0)
  }

  @Test(arguments: ["é", "€", "🙂"])
  func noCharacterIsCutInTwo(_ character: String) {
    let bytes = Array(character.utf8)
    for cut in 1..<bytes.count {
      var lines = PartialLines()
      let filling = [UInt8](repeating: 0x78, count: PartialLines.lineBytes - cut)
      #expect(add(&lines, filling + bytes[..<cut], "1") == [])
      #expect(add(&lines, bytes[cut...] + [0x79], "1", last: true) == [filling, bytes + [0x79]])
    }
    var lines = PartialLines()
    let filling = [UInt8](repeating: 0x78, count: PartialLines.lineBytes - bytes.count) + bytes
    #expect(add(&lines, filling, "1") == [])
    #expect(add(&lines, [0x79], "1", last: true) == [filling, [0x79]])
  }

  @Test func theOldestOfTooManyLinesIsGiven() {
    var lines = PartialLines()
    for number in 0..<PartialLines.openLines {
      #expect(add(&lines, "\(number)", "\(number)", order: UInt64(number + 1)) == [])
    }
    #expect(add(&lines, "a", "last") == ["0"])
    #expect(lines.count == PartialLines.openLines)
    #expect(add(&lines, "!", "1", last: true) == ["1!"])
  }

  @Test func theOldestOfTooManyBytesIsGiven() {
    var lines = PartialLines()
    let part = String(repeating: "x", count: 32 * 1024)
    let room = PartialLines.openBytes / part.utf8.count
    for number in 0..<room { #expect(add(&lines, part, "\(number)") == []) }
    #expect(add(&lines, "a", "last") == [part])
    #expect(lines.count == room)
  }

  @Test func thePlaceOfALineIsThatOfItsFirstPart() {
    var lines = PartialLines()
    _ = add(&lines, "a", "1", order: 5)
    _ = add(&lines, "b", "2", order: 6)
    _ = add(&lines, "a", "1", order: 7)
    #expect(lines.oldest == PartialLines.Place(before: "cursor 5", order: 5))
    _ = add(&lines, "a", "1", last: true)
    #expect(lines.oldest == PartialLines.Place(before: "cursor 6", order: 6))
  }

  @Test func aLineIsWaitedForAsLongAsItsPartsCome() {
    var lines = PartialLines()
    let patience = Duration.seconds(5)
    #expect(lines.firstEnd(after: patience) == nil)
    _ = add(&lines, "a", "1", seconds: 1)
    _ = add(&lines, "b", "2", seconds: 2)
    _ = add(&lines, "A", "1", seconds: 4)
    func time(_ seconds: Int) -> MonotonicTime {
      MonotonicTime(nanoseconds: UInt64(seconds) * 1_000_000_000)
    }
    func over(_ now: MonotonicTime?, _ seconds: Int) -> [String] {
      lines.over(at: now, timestamp: seconds * 1000, after: patience)
        .map { String(decoding: $0.bytes, as: UTF8.self) }
    }
    #expect(lines.firstEnd(after: patience) == time(7))
    #expect(over(time(6), 4) == [])
    // More may come of what was not read.
    #expect(over(nil, 4) == [])
    #expect(over(time(7), 4) == ["b"])
    #expect(over(nil, 9) == ["aA"])
    #expect(lines.count == 0)
  }
}
