import JSON
import TestSupport
import Testing

@Suite struct `JSON parsing` {
  @Test(arguments: [
    "null", "true", "false", "0", "-0", "1.5e-3", "1e999", "123456789012345678901234567890", #""""#,
    #""a\"b\\c\n\t""#, "[]", "[1,[2,[3]]]", "{}", #"{"b":1,"a":{"c":[null]}}"#, #""é😀""#,
  ])
  func `what is written in compact form comes back as it was`(text: String) throws {
    #expect(try JSON(parsing: text).serialized() == text)
  }

  @Test(arguments: [
    "", " ", "nul", "tru", "+1", "01", "1.", ".5", "1e", "-", "\"", #""\x""#, #""\u12g4""#, #""\u12"#,
    "\"\u{1}\"", "[", "[1", "[1,", "[1,]", "{", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, "{a:1}", "1 2", "[]]",
    "'a'",
    "NaN", "Infinity", "\u{B}1",
  ])
  func `what is no JSON is refused`(text: String) {
    #expect(throws: JSONSyntaxError.self) { try JSON(parsing: text) }
  }

  @Test func `an error says where it is`() {
    #expect(throws: JSONSyntaxError(reason: "Expected ',' or '}' after property value", offset: 7)) {
      try JSON(parsing: #"{"a":1 "b":2}"#)
    }
  }

  @Test func `nesting to the limit is read and one level more is refused`() throws {
    let depth = JSON.maximumDepth
    let text = String(repeating: "[", count: depth) + "1" + String(repeating: "]", count: depth)
    #expect(try JSON(parsing: text).serialized() == text)
    #expect(throws: JSONSyntaxError.self) { try JSON(parsing: "[" + text + "]") }
    #expect(throws: JSONSyntaxError.self) { try JSON(parsing: String(repeating: #"{"a":"#, count: 100_000)) }
  }

  @Test func `surrogate pairs are joined and lone halves are replaced`() throws {
    #expect(try JSON(parsing: #""\ud83d\ude00""#) == "😀")
    #expect(try JSON(parsing: #""\ud83d""#) == "\u{FFFD}")
    #expect(try JSON(parsing: #""\ude00x""#) == "\u{FFFD}x")
    #expect(try JSON(parsing: #""\ud83d\ud83d\ude00""#) == "\u{FFFD}😀")
    #expect(try JSON(parsing: #""\ud83dA""#) == "\u{FFFD}A")
  }

  @Test func `bytes that are no UTF-8 are refused with their position`() {
    #expect(throws: JSONSyntaxError(reason: "Invalid UTF-8", offset: 2)) {
      try JSON(parsing: [0x22, 0x61, 0xFF, 0x22])
    }
  }

  @Test func `a byte order mark is passed over`() throws {
    #expect(try JSON(parsing: [0xEF, 0xBB, 0xBF, 0x31]) == 1)
  }

  @Test func `of two members of one name the later value stands in the earlier place`() throws {
    #expect(try JSON(parsing: #"{"a":1,"b":2,"a":3}"#).serialized() == #"{"a":3,"b":2}"#)
  }

  @Test func `random documents come back equal, and with one byte changed never crash`() throws {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<2000 {
      let document = JSON.random(using: &generator, depth: 4)
      var bytes = document.bytes()
      #expect(try JSON(parsing: bytes) == document)
      bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      if let changed = try? JSON(parsing: bytes) {
        #expect(try JSON(parsing: changed.bytes()) == changed)
      }
    }
  }
}

@Suite struct `JSON values` {
  @Test func `members keep their order whatever happens to others`() {
    var object = JSONObject()
    for number in 0..<40 { object["k\(number)"] = .int(number) }
    object["k3"] = nil
    object["k5"] = "five"
    object["k3"] = "again"
    let expected = (0..<40).filter { $0 != 3 }.map { "k\($0)" } + ["k3"]
    #expect(object.keys == expected)
    #expect(object.map(\.key) == expected)
    #expect(object["k5"] == "five" && object["k39"] == 39 && object["k40"] == nil)
  }

  @Test func `the order of members does not matter for equality`() throws {
    let a = try JSON(parsing: #"{"a":1,"b":[1.0,{"c":null,"d":2}]}"#)
    let b = try JSON(parsing: #"{"b":[1,{"d":2e0,"c":null}],"a":10e-1}"#)
    #expect(a == b && a.hashValue == b.hashValue)
    #expect(a != ["a": 1])
    #expect(JSON.object(["a": nil]) != [:])
  }

  @Test(arguments: [
    ("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.0", "0e5"), ("1e999", "10e998"), ("0.1", "1E-1"),
  ])
  func `numbers are equal by value`(a: String, b: String) throws {
    let (a, b) = (try JSON(parsing: a), try JSON(parsing: b))
    #expect(a == b && a.hashValue == b.hashValue)
  }

  @Test(arguments: [
    ("9007199254740992", "9007199254740993"), ("1e999", "2e999"), ("1", "-1"), ("1", "10"), ("0.1", "0.01"),
    ("1e99999999999999999999", "1e99999999999999999998"),
  ])
  func `numbers that a Double cannot tell apart are different`(a: String, b: String) throws {
    #expect(try JSON(parsing: a) != JSON(parsing: b))
  }

  @Test func `a whole number is an integer in every spelling and nothing else is`() throws {
    for text in ["5", "5.0", "5e0", "0.5e1"] { #expect(try JSON(parsing: text).intValue == 5) }
    #expect(try JSON(parsing: "9223372036854775807").intValue == Int.max)
    for text in ["5.5", "1e999", "-1e999", "9223372036854775808", "1e400"] {
      #expect(try JSON(parsing: text).intValue == nil)
    }
  }

  @Test func `doubles are written so that they can be read`() throws {
    for value in [0.1, 1e20, -2.5e-7, Double.leastNonzeroMagnitude, Double.greatestFiniteMagnitude, 3.0] {
      let number = try #require(JSONNumber(value))
      #expect(try JSON(parsing: number.text).doubleValue == value)
    }
    #expect(JSONNumber(Double.infinity) == nil && JSONNumber(Double.nan) == nil)
  }

  @Test func `control characters are escaped and others are not`() {
    let value: JSON = "\u{0}\u{1F}\u{7F}/\u{2028}é\u{8}\u{C}"
    #expect(value.serialized() == "\"\\u0000\\u001f\u{7F}/\u{2028}é\\b\\f\"")
  }
}

nonisolated extension JSON {
  static func random(using generator: inout SeededGenerator, depth: Int) -> JSON {
    switch Int.random(in: 0...(depth > 0 ? 7 : 5), using: &generator) {
    case 0: return .null
    case 1: return .bool(Bool.random(using: &generator))
    case 2: return .int(Int.random(in: Int.min...Int.max, using: &generator))
    case 3: return JSONNumber(Double.random(in: -1e6...1e6, using: &generator)).map(JSON.number) ?? 0
    case 4, 5: return .string(randomText(using: &generator))
    case 6:
      return .array(
        (0..<Int.random(in: 0...4, using: &generator)).map { _ in random(using: &generator, depth: depth - 1)
        })
    default:
      var object = JSONObject()
      for _ in 0..<Int.random(in: 0...5, using: &generator) {
        object[randomText(using: &generator)] = random(using: &generator, depth: depth - 1)
      }
      return .object(object)
    }
  }

  private static func randomText(using generator: inout SeededGenerator) -> String {
    let letters: [Character] = ["a", "B", "\"", "\\", "\n", "\u{1}", "é", "😀", "/", " ", "\u{7F}"]
    return String(
      (0..<Int.random(in: 0...8, using: &generator)).compactMap { _ in
        letters.randomElement(using: &generator)
      })
  }
}
