/// Base64 text (RFC 4648).
public nonisolated enum Base64 {
  /// With padding.
  public static func encode(_ bytes: [UInt8]) -> String { encode(bytes, lastTwo: "+/") }

  /// The URL-safe alphabet of section 5, with padding, as the engine decodes it.
  public static func encodeURLSafe(_ bytes: [UInt8]) -> String { encode(bytes, lastTwo: "-_") }

  /// The bytes of text in either alphabet, with or without padding; nil for text that is not base64.
  /// White space is skipped.
  public static func decode(_ text: String) -> [UInt8]? {
    decode(text.utf8.filter { $0 > 0x20 }, isURLSafe: true)
  }

  /// - Parameter isURLSafe: takes letters of the URL-safe alphabet, too.
  static func decode(_ letters: [UInt8], isURLSafe: Bool = false) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(letters.count / 4 * 3)
    var bits: UInt32 = 0
    var count = 0
    var padding = 0
    for letter in letters {
      guard letter != UInt8(ascii: "=") else {
        padding += 1
        continue
      }
      guard padding == 0, let value = value(of: letter, isURLSafe) else { return nil }
      bits = bits << 6 | value
      count += 1
      if count % 4 != 1 { bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(6 - 2 * ((count - 1) % 4)))) }
    }
    return count % 4 == 1 || padding > 2 ? nil : bytes
  }

  private static func value(of letter: UInt8, _ isURLSafe: Bool) -> UInt32? {
    switch letter {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(letter - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(letter - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(letter - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    case UInt8(ascii: "-"): isURLSafe ? 62 : nil
    case UInt8(ascii: "_"): isURLSafe ? 63 : nil
    default: nil
    }
  }

  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8)

  private static func encode(_ bytes: [UInt8], lastTwo: String) -> String {
    let alphabet = alphabet + Array(lastTwo.utf8)
    var output: [UInt8] = []
    output.reserveCapacity((bytes.count + 2) / 3 * 4)
    for at in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[at..<min(at + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for position in 0..<4 {
        let isPadding = position > group.count
        output.append(isPadding ? UInt8(ascii: "=") : alphabet[Int(bits >> (18 - 6 * UInt32(position)) & 63)])
      }
    }
    return String(decoding: output, as: UTF8.self)
  }
}
