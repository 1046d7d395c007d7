/// The method of a request (RFC 9110 section 9). Methods are case-sensitive.
public nonisolated enum Method: UInt8, Hashable, Sendable {
  case get, head, post, put, patch, delete, options
  /// Any other token; `Request.methodName` has its text.
  case other

  /// As it stands in `Allow`; empty for `other`.
  public var name: String {
    switch self {
    case .get: "GET"
    case .head: "HEAD"
    case .post: "POST"
    case .put: "PUT"
    case .patch: "PATCH"
    case .delete: "DELETE"
    case .options: "OPTIONS"
    case .other: ""
    }
  }

  init(_ token: UnsafeBufferPointer<UInt8>) {
    switch token.count {
    case 3: self = token.equals("GET") ? .get : token.equals("PUT") ? .put : .other
    case 4: self = token.equals("HEAD") ? .head : token.equals("POST") ? .post : .other
    case 5: self = token.equals("PATCH") ? .patch : .other
    case 6: self = token.equals("DELETE") ? .delete : .other
    case 7: self = token.equals("OPTIONS") ? .options : .other
    default: self = .other
    }
  }
}
