import Testing

@testable import HTTPClient

@Suite struct `Text encodings` {
  private nonisolated static let vectors = [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
  ]

  @Test(arguments: vectors)
  func `base64 is that of the RFC, both ways`(text: String, encoded: String) {
    #expect(Base64.encode(Array(text.utf8)) == encoded)
    #expect(Base64.encodeURLSafe(Array(text.utf8)) == encoded)
    #expect(Base64.decode(encoded) == Array(text.utf8))
    #expect(Base64.decode(Array(encoded.utf8)) == Array(text.utf8))
  }

  @Test func `the last two letters differ where the text goes into a header`() {
    #expect(Base64.encode([0xFB, 0xFF, 0xBF]) == "+/+/")
    #expect(Base64.encodeURLSafe([0xFB, 0xFF, 0xBF]) == "-_-_")
    #expect(Base64.decode("-_+/") == [0xFB, 0xFF, 0xBF])
    #expect(Base64.decode(Array("-_-_".utf8)) == nil)
  }

  @Test func `white space and missing padding do not matter in text that people write`() {
    #expect(Base64.decode(" Zm9v\n Yg\r\n") == Array("foob".utf8))
  }

  @Test(arguments: ["Z", "Zm9vY", "Zg===", "Z=g=", "Zm9v!", "Zé"])
  func `what is no base64 is nothing`(text: String) {
    #expect(Base64.decode(text) == nil)
    #expect(Base64.decode(Array(text.utf8)) == nil)
  }

  @Test func `paths keep their slashes, and queries nothing`() {
    #expect(PercentEncoding.path("host:5000/a b@sha256:0?x#é") == "host:5000/a%20b@sha256:0%3Fx%23%C3%A9")
    #expect(PercentEncoding.queryValue(#"{"a":["b/c&d"]}"#) == "%7B%22a%22%3A%5B%22b%2Fc%26d%22%5D%7D")
    #expect(PercentEncoding.queryValue("azAZ09-._~") == "azAZ09-._~")
  }
}
