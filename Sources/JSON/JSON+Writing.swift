nonisolated extension JSON {
  /// Compact JSON text: no blanks, members in their order, `/` not escaped.
  public func serialized() -> String {
    String(decoding: bytes(), as: UTF8.self)
  }

  /// `serialized()` as UTF-8.
  public func bytes() -> [UInt8] {
    var output: [UInt8] = []
    write(to: &output)
    return output
  }

  /// Appends the compact text.
  public func write(to output: inout [UInt8]) {
    switch self {
    case .null: output.append(contentsOf: "null".utf8)
    case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
    case .number(let number): output.append(contentsOf: number.text.utf8)
    case .string(let value): Self.write(string: value, to: &output)
    case .array(let values):
      output.append(UInt8(ascii: "["))
      for (position, value) in values.enumerated() {
        if position > 0 { output.append(UInt8(ascii: ",")) }
        value.write(to: &output)
      }
      output.append(UInt8(ascii: "]"))
    case .object(let members):
      output.append(UInt8(ascii: "{"))
      var isFirst = true
      for (key, value) in members {
        if !isFirst { output.append(UInt8(ascii: ",")) }
        isFirst = false
        Self.write(string: key, to: &output)
        output.append(UInt8(ascii: ":"))
        value.write(to: &output)
      }
      output.append(UInt8(ascii: "}"))
    }
  }

  /// Appends a quoted string (RFC 8259 section 7): only what must be escaped is.
  public static func write(string: String, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "\""))
    // Nearly every string can be copied as it is.
    let start = output.count
    output.append(contentsOf: string.utf8)
    let mustEscape = output[start...].contains { byte in
      byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }
    if mustEscape {
      output.removeSubrange(start...)
      for byte in string.utf8 { write(escaped: byte, to: &output) }
    }
    output.append(UInt8(ascii: "\""))
  }

  private static func write(escaped byte: UInt8, to output: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "\""): output.append(contentsOf: #"\""#.utf8)
    case UInt8(ascii: "\\"): output.append(contentsOf: #"\\"#.utf8)
    case 0x08: output.append(contentsOf: #"\b"#.utf8)
    case 0x09: output.append(contentsOf: #"\t"#.utf8)
    case 0x0A: output.append(contentsOf: #"\n"#.utf8)
    case 0x0C: output.append(contentsOf: #"\f"#.utf8)
    case 0x0D: output.append(contentsOf: #"\r"#.utf8)
    case 0..<0x20:
      output.append(contentsOf: #"\u00"#.utf8)
      for digit in [byte >> 4, byte & 15] {
        output.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
      }
    default: output.append(byte)
    }
  }
}

nonisolated extension JSON: CustomStringConvertible {
  public var description: String { serialized() }
}
