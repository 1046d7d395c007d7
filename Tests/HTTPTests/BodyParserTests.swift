import CZlib
import JSON
import TestSupport
import Testing

@testable import HTTP

private nonisolated func parsed(_ text: String, _ type: String?, _ encoding: String? = nil) throws -> JSON {
  try BodyParser.parse(contentType: type, contentEncoding: encoding, bytes: Array(text.utf8))
}

private nonisolated func form(_ text: String) throws -> JSON {
  try parsed(text, "application/x-www-form-urlencoded")
}

private nonisolated func failure(_ body: () throws -> JSON) -> String? {
  do {
    _ = try body()
    return nil
  } catch { return (error as? BodyError)?.message ?? "\(error)" }
}

/// Compressed by zlib with the given window: 15 is zlib's format, 31 gzip's, -15 bare.
private nonisolated func compressed(_ bytes: [UInt8], windowBits: Int32) -> [UInt8] {
  var stream = z_stream()
  deflateInit2_(
    &stream, 6, Z_DEFLATED, windowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
    Int32(MemoryLayout<z_stream>.size))
  defer { deflateEnd(&stream) }
  var input = bytes
  var output = [UInt8](repeating: 0, count: bytes.count + 1024)
  input.withUnsafeMutableBufferPointer { source in
    output.withUnsafeMutableBufferPointer { target in
      stream.next_in = source.baseAddress
      stream.avail_in = UInt32(source.count)
      stream.next_out = target.baseAddress
      stream.avail_out = UInt32(target.count)
      deflate(&stream, Z_FINISH)
    }
  }
  return Array(output[..<Int(stream.total_out)])
}

nonisolated struct `A request body` {
  @Test func `of JSON is an object or an array`() throws {
    #expect(try parsed(#"{"force":true}"#, "application/json") == ["force": true])
    #expect(try parsed(" [1]", "Application/JSON; charset=UTF-8") == [1])
    #expect(try parsed("", "application/json") == [:])
  }

  @Test(arguments: ["1", "null", "true", "\"a\"", "{", "{\"a\":1,}", " ", "{} x"])
  func `of anything else than an object or an array is refused`(_ text: String) {
    #expect(failure { try parsed(text, "application/json") }?.contains("JSON") == true)
  }

  @Test(arguments: [
    nil, "text/plain", "application/vnd.x+json", "application/jsonx", "json", "",
    "multipart/form-data; boundary=x",
  ])
  func `of another type is ignored`(_ type: String?) throws {
    #expect(try parsed(#"{"force":true}"#, type) == [:])
    #expect(
      try BodyParser.parse(contentType: type, contentEncoding: "br2", bytes: [], isTooLarge: true) == [:])
  }

  @Test func `must be in a charset that is understood`() throws {
    #expect(
      failure { try parsed("{}", "application/json; charset=latin1") } == "unsupported charset \"LATIN1\"")
    #expect(
      failure { try parsed("a=1", "application/x-www-form-urlencoded; charset=utf-16") }
        == "unsupported charset \"UTF-16\"")
    let units: [UInt8] = [0xFF, 0xFE, 0x7B, 0, 0x7D, 0]
    #expect(
      try BodyParser.parse(
        contentType: "application/json;charset=\"utf-16\"", contentEncoding: nil, bytes: units) == [:])
  }

  @Test func `must be in an encoding that is understood`() {
    #expect(
      failure { try parsed("{}", "application/json", "BR2") } == "unsupported content encoding \"br2\"")
    #expect(failure { try parsed("not gzip", "application/json", "gzip") } != nil)
  }

  @Test(arguments: [("gzip", Int32(31)), ("deflate", 15), ("deflate", -15), ("GZIP", 31)])
  func `is inflated`(_ encoding: String, _ windowBits: Int32) throws {
    let bytes = compressed(
      Array(#"{"a":"\#(String(repeating: "x", count: 100_000))"}"#.utf8), windowBits: windowBits)
    let value = try BodyParser.parse(contentType: "application/json", contentEncoding: encoding, bytes: bytes)
    #expect(value["a"]?.stringValue?.count == 100_000)
    #expect(
      failure {
        try BodyParser.parse(
          contentType: "application/json", contentEncoding: encoding, bytes: bytes.dropLast(20))
      } == "unexpected end of file")
  }

  @Test func `has a limit, also for what it inflates to`() {
    let large = [UInt8](repeating: 0x20, count: Limits.bodyBytes + 1)
    #expect(
      failure { try BodyParser.parse(contentType: "application/json", contentEncoding: nil, bytes: large) }
        == "request entity too large")
    let bomb = compressed(large, windowBits: 31)
    #expect(bomb.count < 20_000)
    #expect(
      failure { try BodyParser.parse(contentType: "application/json", contentEncoding: "gzip", bytes: bomb) }
        == "request entity too large")
  }
}

nonisolated struct `A form` {
  @Test func `is keys and strings`() throws {
    #expect(try form("a=1&b=x+y%21&c&=d") == ["a": "1", "b": "x y!", "c": "", "": "d"])
    #expect(try form("") == [:])
    #expect(try form("a=%ZZ") == ["a": "%ZZ"])
    #expect(try form(#"{"force":true}"#) == [#"{"force":true}"#: ""])
  }

  @Test func `nests by brackets`() throws {
    #expect(try form("a[b]=1&a[c][d]=2") == ["a": ["b": "1", "c": ["d": "2"]]])
    #expect(try form("a%5Bb%5D=1") == ["a": ["b": "1"]])
    #expect(try form("a[]=1&a[]=2") == ["a": ["1", "2"]])
    #expect(try form("a[1]=x&a[0]=y") == ["a": ["y", "x"]])
    #expect(try form("a[5]=x") == ["a": ["x"]])
    #expect(try form("a[1000]=x") == ["a": ["1000": "x"]])
    #expect(try form("a[b]=1&a=2") == ["a": ["b": "1", "2": true]])
  }

  @Test func `makes an array of a key that comes again`() throws {
    #expect(try form("a=1&a=2&a=3") == ["a": ["1", "2", "3"]])
    #expect(try form("a[b]=1&a[b]=2") == ["a": ["b": ["1", "2"]]])
  }

  @Test func `has limits`() throws {
    let many = (1...Limits.formParameters).map { "k\($0)=1" }.joined(separator: "&")
    #expect(try form(many).objectValue?.count == Limits.formParameters)
    #expect(failure { try form(many + "&x=1") } == "too many parameters")
    let deep = "a" + String(repeating: "[b]", count: 100)
    #expect(failure { try form(deep + "=1") } != nil)
  }

  @Test func `of any bytes is an object`() throws {
    var random = SeededGenerator(seed: 3)
    let alphabet = Array("ab01[]=&%+.".utf8)
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0...24, using: &random)).compactMap { _ in
        alphabet.randomElement(using: &random)
      }
      let value = try FormParser.parse(bytes)
      #expect(value.objectValue != nil)
    }
  }
}
