/// A request's method (RFC 9110, section 9).
public nonisolated enum Method: String, Sendable, Hashable, CustomStringConvertible {
  case get = "GET"
  case head = "HEAD"
  case post = "POST"
  case put = "PUT"
  case patch = "PATCH"
  case delete = "DELETE"
  case options = "OPTIONS"
  /// A valid token that names none of the above; `Request.methodText` has it.
  case other = ""

  public var description: String { rawValue }

  /// The method of a token, byte by byte: methods are case-sensitive.
  static func of(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Method {
    switch count {
    case 3 where equals(bytes, "GET"): .get
    case 3 where equals(bytes, "PUT"): .put
    case 4 where equals(bytes, "POST"): .post
    case 4 where equals(bytes, "HEAD"): .head
    case 5 where equals(bytes, "PATCH"): .patch
    case 6 where equals(bytes, "DELETE"): .delete
    case 7 where equals(bytes, "OPTIONS"): .options
    default: .other
    }
  }

  private static func equals(_ bytes: UnsafePointer<UInt8>, _ text: StaticString) -> Bool {
    for position in 0..<text.utf8CodeUnitCount where bytes[position] != text.utf8Start[position] {
      return false
    }
    return true
  }
}
