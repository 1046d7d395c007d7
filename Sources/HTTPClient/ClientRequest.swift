/// One request of the client.
public nonisolated struct ClientRequest: Sendable {
  /// What goes out after the head.
  public enum Body: Sendable {
    case none
    /// Sent with its length.
    case bytes([UInt8])
    /// Sent while it is written; chunked unless the stream has a length.
    case stream(RequestBody)
  }

  /// Limits of one request's phases; nil means without limit.
  public struct Timeouts: Sendable, Hashable {
    /// Name look-up, connection and TLS handshake together.
    public var connect: Duration
    /// From the moment the request (or the last piece of its body) left until the answer's first byte.
    public var firstByte: Duration?
    /// Between two pieces of the answer. Time in which the consumer does not read is not counted.
    public var idle: Duration?
    /// The whole transfer.
    public var total: Duration?

    public init(
      connect: Duration = .seconds(30), firstByte: Duration? = .seconds(60), idle: Duration? = .seconds(60),
      total: Duration? = nil
    ) {
      self.connect = connect
      self.firstByte = firstByte
      self.idle = idle
      self.total = total
    }
  }

  public var method: String
  /// Absolute, `http` or `https`, percent-encoded. It is sent as it is, without normalising the path.
  public var url: String
  /// Path of the socket to connect to instead of the host and port of `url`.
  public var unixSocket: String?
  /// Sent in this order. A name given here replaces what the client would send by itself.
  public var headers: [(name: String, value: String)]
  public var body: Body
  public var timeouts: Timeouts
  /// Redirections to follow, of GET and HEAD only; with 0 a redirection is an answer like any other.
  public var maximumRedirects: Int
  /// Ask for, and undo, every content encoding that libcurl can.
  public var acceptsEncodings: Bool
  /// `send(_:)` fails beyond this many bytes of (decoded) answer body.
  public var bodyLimit: Int
  /// Ask nothing: the answer, of status 0, is that a TCP connection came about. It is closed at once.
  public var connectsOnly = false
  /// libcurl follows redirections; false while the client looks first where they lead.
  var followsRedirects = true
  /// Addresses of the URL's host, where it is not to be looked up.
  var addresses: [String] = []

  /// Answers that are kept whole: 16 MiB, several times the largest target state.
  public static let defaultBodyLimit = 16 * 1024 * 1024

  public init(
    _ method: String = "GET", _ url: String, unixSocket: String? = nil,
    headers: [(name: String, value: String)] = [], body: Body = .none, timeouts: Timeouts = Timeouts(),
    maximumRedirects: Int = 0, acceptsEncodings: Bool = false,
    bodyLimit: Int = ClientRequest.defaultBodyLimit
  ) {
    self.method = method
    self.url = url
    self.unixSocket = unixSocket
    self.headers = headers
    self.body = body
    self.timeouts = timeouts
    self.maximumRedirects = maximumRedirects
    self.acceptsEncodings = acceptsEncodings
    self.bodyLimit = bodyLimit
  }

  /// Redirections that libcurl follows.
  var redirectLimit: Int { followsRedirects && (method == "GET" || method == "HEAD") ? maximumRedirects : 0 }

  /// A redirection may be to https, and libcurl does not take a key along when the scheme changes.
  var mayLoseKey: Bool {
    redirectLimit > 0 && unixSocket == nil && url.lowercased().hasPrefix("http://")
      && headers.contains { $0.name.lowercased() == "authorization" }
  }

  /// The same host by https: the key may go there.
  func isSecured(by location: String) -> Bool {
    guard location.lowercased().hasPrefix("https://"), !location.contains("@"),
      let host = authority?.host, let other = ClientRequest("GET", location).authority?.host
    else { return false }
    return host.lowercased() == other.lowercased()
  }

  /// Host and port of `url`.
  var authority: (host: String, port: Int)? {
    let parts = url.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count > 2, let authority = parts[2].split(separator: "@").last else { return nil }
    let pieces = authority.split(separator: ":")
    guard let host = pieces.first, pieces.count <= 2 else { return nil }
    let port = pieces.count == 2 ? Int(pieces[1]) : parts[0] == "https:" ? 443 : 80
    return port.map { (String(host), $0) }
  }

  /// The other side, as a person would name it: the socket, or scheme, host and port.
  public var peer: String {
    if let unixSocket { return "unix://\(unixSocket)" }
    // scheme ":" "//" authority (RFC 3986 section 3)
    let parts = url.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].last == ":", parts[1].isEmpty else { return url }
    let authority = parts[2].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    // Credentials in a URL must not reach a log.
    let host = authority.split(separator: "@").last ?? authority
    return "\(parts[0])//\(host)"
  }
}

/// The fields of an answer's head, in order.
public nonisolated struct HeaderFields: Sendable {
  public private(set) var fields: [(name: String, value: String)] = []

  public init() {}

  mutating func append(_ name: String, _ value: String) { fields.append((name, value)) }

  /// The first field of that name; case does not matter (RFC 9110 section 5.1).
  public subscript(name: String) -> String? {
    let wanted = name.utf8.lazy.map(Self.lowercased)
    return fields.first { $0.name.utf8.lazy.map(Self.lowercased).elementsEqual(wanted) }?.value
  }

  private static func lowercased(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}

/// An answer that was read to its end. Any status is an answer, not an error.
public nonisolated struct ClientResponse: Sendable {
  public let status: Int
  public let headers: HeaderFields
  public let body: [UInt8]

  public init(status: Int, headers: HeaderFields = HeaderFields(), body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }
}

/// An answer whose body is still to be read.
public struct StreamedResponse {
  public let status: Int
  public let headers: HeaderFields
  /// Dropping it without reading to the end gives up the transfer.
  public let body: ResponseBody
}
