/// Percent-encoding of what goes into a request's path and query (RFC 3986).
public nonisolated enum PercentEncoding {
  /// A name in a path. Slashes stay: the engine's routes take image names with them.
  public static func path(_ text: String) -> String { encode(text, keeping: "-._~/:@") }

  /// Encodes all but the unreserved characters (section 2.3).
  public static func queryValue(_ text: String) -> String { encode(text, keeping: "-._~") }

  private static func encode(_ text: String, keeping marks: String) -> String {
    var output: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        output.append(byte)
      case _ where marks.utf8.contains(byte): output.append(byte)
      default:
        let digits = Array("0123456789ABCDEF".utf8)
        output += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: output, as: UTF8.self)
  }
}
