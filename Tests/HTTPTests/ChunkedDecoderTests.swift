import TestSupport
import Testing

@testable import HTTP

private nonisolated func outcome(_ input: [UInt8], pieces: [Int] = []) -> String {
  var decoder = ChunkedDecoder()
  var data: [UInt8] = []
  var total = 0
  var start = 0
  for end in (pieces + [input.count]).sorted() {
    var used = 0
    let result = Array(input[start..<end]).withUnsafeBufferPointer {
      decoder.advance($0, consumed: &used) { data.append(contentsOf: $0) }
    }
    total += used
    start = end
    switch result {
    case .needsMore: continue
    case .complete: return "complete \(total) \(String(decoding: data, as: UTF8.self))"
    case .failed: return "failed"
    }
  }
  return "needs more"
}

private nonisolated func outcome(_ text: String) -> String { outcome(Array(text.utf8)) }

nonisolated struct `The decoder of chunked bodies` {
  @Test func `puts the data together and leaves what follows`() {
    #expect(outcome("5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nT: x\r\n\r\nGET") == "complete 31 hello!")
    #expect(outcome("0\r\n\r\n") == "complete 5 ")
    #expect(outcome("00A\r\n0123456789\r\n0\r\n\r\n") == "complete 22 0123456789")
  }

  @Test(arguments: [
    "\r\n", "x\r\n", "5 \r\nhello\r\n", "5\nhello", "5\r\nhelloo", "5\r\nhello\n", ";a\r\n", "-1\r\n",
    "0x5\r\n", "1;a\nb\r\n", "1;\u{0}\r\n", "1234567890ABCDEF\r\n", "0\r\n T: x\r\n", "0\r\nT : x\r\n",
    "0\r\nT: x\n", "0\r\n\rX", "0\r\nT\r\n",
  ])
  func `refuses what is not chunked`(_ text: String) {
    #expect(outcome(text) == "failed")
  }

  @Test func `bounds extensions and trailers`() {
    #expect(outcome("1;" + String(repeating: "a", count: Limits.chunkExtensionBytes + 1)) == "failed")
    #expect(outcome("0\r\nT: " + String(repeating: "a", count: Limits.trailerBytes)) == "failed")
    let extended = String(repeating: "1;" + String(repeating: "a", count: 100) + "\r\nx\r\n", count: 100)
    #expect(outcome(extended) == "failed")
  }

  @Test func `comes to the same result however the input is divided`() {
    var random = SeededGenerator(seed: 2)
    let parts = [
      "3\r\nabc\r\n", "1\r\nx\r\n", "A;e=f\r\n0123456789\r\n", "0\r\n\r\n", "0\r\nT: v\r\n\r\n", "\r", "\n",
      "z",
    ]
    var kinds: Set<String> = []
    for _ in 0..<20_000 {
      var text = ""
      for _ in 0..<Int.random(in: 1...5, using: &random) { text += parts.randomElement(using: &random) ?? "" }
      let input = Array(text.utf8)
      let cuts = (0..<4).map { _ in Int.random(in: 0...input.count, using: &random) }
      let whole = outcome(input)
      #expect(outcome(input, pieces: cuts) == whole, "\(text.debugDescription) cut at \(cuts)")
      #expect(outcome(input, pieces: Array(0...input.count)) == whole, "\(text.debugDescription)")
      kinds.insert(String(whole.prefix(6)))
    }
    #expect(kinds.count == 3)
  }
}
