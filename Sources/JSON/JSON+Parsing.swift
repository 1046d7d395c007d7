/// Why a text is not JSON, and where.
public nonisolated struct JSONSyntaxError: Error, Hashable, CustomStringConvertible {
  public let reason: String
  /// Offset in bytes from the start of the text.
  public let offset: Int

  public init(reason: String, offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  public var description: String { "\(reason) in JSON at position \(offset)" }
}

nonisolated extension JSON {
  /// Nesting beyond this is refused: a document must not decide how deep our stack goes.
  public static let maximumDepth = 128

  /// Parses one JSON text (RFC 8259); nothing but blanks may follow it.
  public init(parsing text: String) throws(JSONSyntaxError) {
    try self.init(parsing: Array(text.utf8))
  }

  public init(parsing bytes: [UInt8]) throws(JSONSyntaxError) {
    // What stands between two quotes of valid UTF-8 is valid, so that one check serves all strings.
    do throws(UTF8.ValidationError) {
      _ = try UTF8Span(validating: bytes.span)
    } catch {
      throw JSONSyntaxError(reason: "Invalid UTF-8", offset: error.byteOffsets.lowerBound)
    }
    self = try bytes.withUnsafeBufferPointer { (bytes) throws(JSONSyntaxError) in
      var parser = JSONParser(bytes: bytes)
      return try parser.parseDocument()
    }
  }
}

private nonisolated struct JSONParser {
  /// Valid UTF-8 that outlives the parser. Every access is checked against `count` before.
  let bytes: UnsafeBufferPointer<UInt8>
  var at = 0

  init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  mutating func parseDocument() throws(JSONSyntaxError) -> JSON {
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { at = 3 }
    let value = try parseValue(depth: 0)
    skipBlanks()
    guard at == bytes.count else { throw unexpected("Unexpected non-whitespace character after JSON") }
    return value
  }

  private mutating func parseValue(depth: Int) throws(JSONSyntaxError) -> JSON {
    guard depth <= JSON.maximumDepth else { throw unexpected("Nesting too deep") }
    skipBlanks()
    guard at < bytes.count else { throw unexpected("Unexpected end of JSON input") }
    switch bytes[at] {
    case UInt8(ascii: "{"): return try parseObject(depth: depth)
    case UInt8(ascii: "["): return try parseArray(depth: depth)
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
    case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
    case UInt8(ascii: "n"): return try parseWord("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try parseNumber())
    default: throw unexpected("Unexpected token")
    }
  }

  private mutating func parseObject(depth: Int) throws(JSONSyntaxError) -> JSON {
    at += 1
    var members = JSONObject()
    skipBlanks()
    if take(UInt8(ascii: "}")) { return .object(members) }
    while true {
      skipBlanks()
      guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else {
        throw unexpected("Expected double-quoted property name")
      }
      let key = try parseString()
      skipBlanks()
      guard take(UInt8(ascii: ":")) else { throw unexpected("Expected ':' after property name") }
      members[key] = try parseValue(depth: depth + 1)
      skipBlanks()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else {
        throw unexpected("Expected ',' or '}' after property value")
      }
    }
  }

  private mutating func parseArray(depth: Int) throws(JSONSyntaxError) -> JSON {
    at += 1
    var values: [JSON] = []
    skipBlanks()
    if take(UInt8(ascii: "]")) { return .array(values) }
    while true {
      values.append(try parseValue(depth: depth + 1))
      skipBlanks()
      if take(UInt8(ascii: "]")) { return .array(values) }
      guard take(UInt8(ascii: ",")) else {
        throw unexpected("Expected ',' or ']' after array element")
      }
    }
  }

  private mutating func parseString() throws(JSONSyntaxError) -> String {
    at += 1
    let start = at
    while at < bytes.count, bytes[at] != UInt8(ascii: "\""), bytes[at] != UInt8(ascii: "\\"),
      bytes[at] >= 0x20
    { at += 1 }
    guard at < bytes.count else { throw unexpected("Unterminated string") }
    if bytes[at] == UInt8(ascii: "\"") {
      let text = String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<at]), as: UTF8.self)
      at += 1
      return text
    }
    var unescaped: [UInt8] = []
    unescaped.append(contentsOf: bytes[start..<at])
    while true {
      guard at < bytes.count else { throw unexpected("Unterminated string") }
      let byte = bytes[at]
      switch byte {
      case UInt8(ascii: "\""):
        at += 1
        return String(decoding: unescaped, as: UTF8.self)
      case UInt8(ascii: "\\"): try parseEscape(into: &unescaped)
      case 0..<0x20: throw unexpected("Bad control character in string literal")
      default:
        unescaped.append(byte)
        at += 1
      }
    }
  }

  private mutating func parseEscape(into output: inout [UInt8]) throws(JSONSyntaxError) {
    at += 1
    guard at < bytes.count else { throw unexpected("Unterminated string") }
    let letter = bytes[at]
    at += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): output.append(letter)
    case UInt8(ascii: "b"): output.append(0x08)
    case UInt8(ascii: "f"): output.append(0x0C)
    case UInt8(ascii: "n"): output.append(0x0A)
    case UInt8(ascii: "r"): output.append(0x0D)
    case UInt8(ascii: "t"): output.append(0x09)
    case UInt8(ascii: "u"):
      let scalar = try parseUnicodeEscape()
      output.append(contentsOf: String(scalar).utf8)
    default: throw unexpected("Bad escaped character")
    }
  }

  /// Four hexadecimal digits, and the second half of a surrogate pair where one begins;
  /// a lone surrogate becomes U+FFFD.
  private mutating func parseUnicodeEscape() throws(JSONSyntaxError) -> Unicode.Scalar {
    let replacement: Unicode.Scalar = "\u{FFFD}"
    let first = try parseHexadecimal()
    guard (0xD800...0xDBFF).contains(first) else { return Unicode.Scalar(first) ?? replacement }
    guard at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"), bytes[at + 1] == UInt8(ascii: "u")
    else { return replacement }
    let back = at
    at += 2
    let second = try parseHexadecimal()
    guard (0xDC00...0xDFFF).contains(second) else {
      at = back
      return replacement
    }
    return Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)) ?? replacement
  }

  private mutating func parseHexadecimal() throws(JSONSyntaxError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard at < bytes.count else { throw unexpected("Bad Unicode escape") }
      let byte = UInt32(bytes[at])
      switch byte {
      case 0x30...0x39: value = value << 4 | (byte - 0x30)
      case 0x41...0x46, 0x61...0x66: value = value << 4 | ((byte | 0x20) - 0x61 + 10)
      default: throw unexpected("Bad Unicode escape")
      }
      at += 1
    }
    return value
  }

  private mutating func parseNumber() throws(JSONSyntaxError) -> JSONNumber {
    let start = at
    _ = take(UInt8(ascii: "-"))
    if take(UInt8(ascii: "0")) {
      // A number has no leading zeros.
    } else {
      guard skipDigits() else { throw unexpected("No number after minus sign") }
    }
    if take(UInt8(ascii: ".")) {
      guard skipDigits() else { throw unexpected("Unterminated fractional number") }
    }
    if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
      at += 1
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      guard skipDigits() else { throw unexpected("Exponent part is missing a number") }
    }
    return JSONNumber(validated: String(decoding: bytes[start..<at], as: UTF8.self))
  }

  private mutating func parseWord(_ word: String, _ value: JSON) throws(JSONSyntaxError) -> JSON {
    guard bytes[at...].starts(with: word.utf8) else { throw unexpected("Unexpected token") }
    at += word.utf8.count
    return value
  }

  private mutating func skipDigits() -> Bool {
    let start = at
    while at < bytes.count, bytes[at] >= UInt8(ascii: "0"), bytes[at] <= UInt8(ascii: "9") { at += 1 }
    return at > start
  }

  private mutating func skipBlanks() {
    while at < bytes.count,
      bytes[at] == 0x20 || (0x09...0x0D).contains(bytes[at]) && bytes[at] != 0x0B && bytes[at] != 0x0C
    {
      at += 1
    }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard at < bytes.count, bytes[at] == byte else { return false }
    at += 1
    return true
  }

  private func unexpected(_ reason: String) -> JSONSyntaxError {
    JSONSyntaxError(reason: reason, offset: at)
  }
}
