import EventLoop
import Testing

@testable import Journal

struct PartialLinesTests {
  private func place(_ order: UInt64, seconds: Int = 0) -> PartialLines.Place {
    PartialLines.Place(
      before: "cursor \(order)", order: order,
      time: MonotonicTime(nanoseconds: UInt64(seconds) * 1_000_000_000))
  }

  private func add(
    _ lines: inout PartialLines, _ text: String, _ key: String, last: Bool = false, order: UInt64 = 0
  )
    -> String?
  {
    let bytes = Array(text.utf8).withUnsafeBufferPointer {
      lines.add($0, key: key, isLast: last, place: place(order))
    }
    return bytes.map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func partsOfDifferentLinesDoNotMix() {
    var lines = PartialLines()
    #expect(add(&lines, "a", "1") == nil)
    #expect(add(&lines, "b", "2") == nil)
    #expect(add(&lines, "A", "1", last: true) == "aA")
    #expect(add(&lines, "B", "2", last: true) == "bB")
    #expect(lines.count == 0)
  }

  @Test func aLineThatIsTooLongIsCutOff() {
    var lines = PartialLines()
    let part = String(repeating: "x", count: 16 * 1024)
    for _ in 0..<5 { #expect(add(&lines, part, "1") == nil) }
    #expect(add(&lines, part, "1", last: true)?.utf8.count == PartialLines.lineBytes)
  }

  @Test func theOldestOfTooManyLinesGivesWay() {
    var lines = PartialLines()
    for number in 0...PartialLines.openLines {
      _ = add(&lines, "\(number)", "\(number)", order: UInt64(number))
    }
    #expect(lines.count == PartialLines.openLines)
    #expect(lines.place(of: "0") == nil)
    #expect(add(&lines, "!", "0", last: true) == "!")
    #expect(add(&lines, "!", "1", last: true) == "1!")
  }

  @Test func thePlaceOfALineIsThatOfItsFirstPart() {
    var lines = PartialLines()
    _ = add(&lines, "a", "1", order: 5)
    _ = add(&lines, "b", "2", order: 6)
    _ = add(&lines, "a", "1", order: 7)
    #expect(lines.place(of: "1")?.order == 5)
    let start = MonotonicTime(nanoseconds: 0)
    #expect(lines.oldest(at: start, within: .seconds(5))?.before == "cursor 5")
    #expect(lines.oldest(at: MonotonicTime(nanoseconds: 6_000_000_000), within: .seconds(5)) == nil)
    _ = add(&lines, "a", "1", last: true)
    #expect(lines.oldest(at: start, within: .seconds(5))?.before == "cursor 6")
  }
}
