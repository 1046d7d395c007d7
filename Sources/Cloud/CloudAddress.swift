/// How the addresses of calls are put together (cloud 0.2).
public nonisolated enum CloudAddress {
  /// An absolute path on the endpoint's host (RFC 3986 section 5.2.2): a path in the endpoint is lost.
  public static func resolve(_ path: String, on endpoint: String) -> String { origin(of: endpoint) + path }

  /// The endpoint's path is kept, with exactly one slash in between.
  public static func join(_ endpoint: String, _ path: String) -> String {
    var base = endpoint[...]
    while base.last == "/" { base.removeLast() }
    return base + (path.first == "/" ? path : "/\(path)")
  }

  /// `scheme://authority`.
  static func origin(of endpoint: String) -> String {
    let parts = endpoint.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count >= 3, parts[1].isEmpty else { return endpoint }
    return "\(parts[0])//\(parts[2].prefix { $0 != "?" && $0 != "#" })"
  }

  /// A literal of OData's URL conventions: quoted, quotes doubled, percent-encoded.
  public static func literal(_ text: String) -> String {
    "%27" + encoded(text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''"))
      + "%27"
  }

  /// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
  public static func encoded(_ text: String) -> String {
    var output = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        output.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        output += digits.count == 1 ? "%0\(digits)" : "%\(digits)"
      }
    }
    return output
  }
}
