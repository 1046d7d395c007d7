import TestSupport
import Testing

@testable import HTTP

/// What a head says, as text, so that outcomes can be compared.
private nonisolated func outcome(_ input: [UInt8], pieces: [Int] = []) -> String {
  let fields = UnsafeMutablePointer<HeadParser.Field>.allocate(capacity: Limits.headerCount)
  defer { fields.deallocate() }
  var parser = HeadParser(fields: fields)
  var ends = pieces + [input.count]
  ends.sort()
  for end in ends {
    // A copy of exactly these bytes: reading past them would be reading past the allocation.
    let result = Array(input[..<end]).withUnsafeBufferPointer { parser.advance($0) }
    switch result {
    case .needsMore: continue
    case .failed(let fault): return "failed \(fault)"
    case .complete:
      func text(_ slice: HeadParser.Slice) -> String { String(decoding: input[slice.range], as: UTF8.self) }
      let list = (0..<parser.fieldCount).map { "\(text(fields[$0].name))=\(text(fields[$0].value))" }
      return "\(text(parser.methodToken)) \(text(parser.path)) \(parser.query.map(text) ?? "-") "
        + "\(parser.isVersion10) \(parser.framing) \(parser.keepsAlive) \(parser.expectsContinue) "
        + "\(parser.length) \(list)"
    }
  }
  return "needs more"
}

private nonisolated func outcome(_ text: String) -> String { outcome(Array(text.utf8)) }

nonisolated struct `The parser of request heads` {
  @Test func `reads a simple GET`() {
    #expect(
      outcome("GET /v2/state?apikey=x HTTP/1.1\r\nHost: a\r\nX-Y:  b c \r\n\r\nrest")
        == "GET /v2/state apikey=x false none true false 56 [\"Host=a\", \"X-Y=b c\"]")
  }

  @Test func `reads lengths, codings and what becomes of the connection`() {
    #expect(outcome("POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 12\r\n\r\n").contains("length(12) true"))
    #expect(
      outcome("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n").contains("chunked true"))
    #expect(
      outcome("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").contains("none false false"))
    #expect(outcome("GET / HTTP/1.0\r\n\r\n").contains("true none false"))
    #expect(outcome("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").contains("true none true"))
    #expect(outcome("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").contains("true true"))
  }

  @Test func `takes the path out of an absolute URL, and the star of OPTIONS`() {
    #expect(outcome("GET http://h:1/a?b HTTP/1.1\r\nHost: h\r\n\r\n").hasPrefix("GET /a b "))
    #expect(outcome("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").hasPrefix("OPTIONS * - "))
  }

  @Test func `skips empty lines before a request`() {
    #expect(outcome("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").hasPrefix("GET / - "))
  }

  @Test(arguments: [
    "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\n: a\r\n\r\n", "GET / HTTP/1.1\r\nHost\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "GET / HTTP/1.1\r\nHo\u{0}st: a\r\n\r\n",
    "GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\u{7F} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "GET / http/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
  ])
  func `refuses what two readers could understand differently`(_ text: String) {
    #expect(outcome(text) == "failed malformed")
  }

  @Test func `names other faults for what they are`() {
    #expect(outcome("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == "failed versionNotSupported")
    #expect(
      outcome("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
        == "failed codingNotSupported")
    #expect(outcome("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n") == "failed expectationFailed")
    let long = String(repeating: "a", count: Limits.targetBytes)
    #expect(outcome("GET /\(long) HTTP/1.1\r\nHost: a\r\n\r\n") == "failed targetTooLong")
    #expect(
      outcome("GET / HTTP/1.1\r\nHost: a\r\nX: \(long)\r\nY: \(long)\r\n\r\n") == "failed headTooLarge")
    let many = String(repeating: "X: y\r\n", count: Limits.headerCount)
    #expect(outcome("GET / HTTP/1.1\r\nHost: a\r\n\(many)\r\n") == "failed headTooLarge")
    #expect(outcome(String(repeating: "a", count: Limits.headBytes)) == "failed targetTooLong")
  }

  /// Heads are made of parts that matter to the parser, right and wrong, and cut anywhere.
  @Test func `comes to the same result however the input is divided`() {
    var random = SeededGenerator(seed: 1)
    let lines = [
      "GET / HTTP/1.1\r\n", "POST /a/b?c=d HTTP/1.1\r\n", "GET /x HTTP/1.0\r\n", "Host: a\r\n", "Host: a\r\n",
      "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "X-A: b\r\n",
      "Expect: 100-continue\r\n", "\r\n", "\r\n", "\r", "\n", " ", ":", "\0", "Accept: */*\r\n",
    ]
    var kinds: Set<String> = []
    for _ in 0..<20_000 {
      var text = Bool.random(using: &random) ? lines[0] + lines[3] : ""
      for _ in 0..<Int.random(in: 1...6, using: &random) { text += lines.randomElement(using: &random) ?? "" }
      if Bool.random(using: &random) { text += "\r\n" }
      let input = Array(text.utf8)
      let whole = outcome(input)
      let cuts = (0..<Int.random(in: 1...8, using: &random)).map { _ in
        Int.random(in: 0...input.count, using: &random)
      }
      #expect(outcome(input, pieces: cuts) == whole, "\(text.debugDescription) cut at \(cuts)")
      #expect(outcome(input, pieces: Array(0...input.count)) == whole, "\(text.debugDescription)")
      kinds.insert(String(whole.prefix(8)))
    }
    #expect(kinds.count >= 5)
  }
}

nonisolated struct `The list of token characters` {
  @Test func `is that of RFC 9110`() {
    let others = "!#$%&'*+-.^_`|~"
    for byte in UInt8.min...UInt8.max {
      let scalar = Unicode.Scalar(byte)
      let isToken =
        byte < 128
        && (("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
          || others.unicodeScalars.contains(scalar))
      #expect(byte.isTokenCharacter == isToken, "\(byte)")
    }
  }
}
