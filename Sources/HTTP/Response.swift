public import JSON

/// An answer: status, header fields and body.
///
/// `Date`, `Connection`, `Keep-Alive`, and `Content-Length` or `Transfer-Encoding` are the
/// server's business; it adds them, and never `Server` or `X-Powered-By`.
public nonisolated struct Response {
  public enum Body {
    case bytes([UInt8])
    /// Head and body serialised beforehand; the other properties of the response do not count.
    case prepared(PreparedResponse)
    /// Produced piece by piece while the socket takes it. Runs in a task of its own, which is
    /// cancelled when the client goes away. Not run for HEAD.
    case stream(@MainActor (BodyWriter) async -> Void)
  }

  public var status: Status
  /// Value of `Content-Type`; nil to send none.
  public var contentType: String?
  /// Further fields, in order.
  public var headers: [(name: String, value: String)]
  public var body: Body

  public init(
    _ status: Int, contentType: String?, body: [UInt8] = [], headers: [(name: String, value: String)] = []
  ) {
    self.init(Status(status), contentType: contentType, headers: headers, body: .bytes(body))
  }

  private init(_ status: Status, contentType: String?, headers: [(name: String, value: String)], body: Body) {
    self.status = status
    self.contentType = contentType
    self.headers = headers
    self.body = body
  }

  /// `text/plain` with the bare text, which may be empty.
  public static func text(_ text: String, status: Int = 200) -> Response {
    Response(status, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
  }

  /// `text/html` with the text as it is: escape what comes from outside.
  public static func html(_ text: String, status: Int = 200) -> Response {
    Response(status, contentType: "text/html; charset=utf-8", body: Array(text.utf8))
  }

  /// Compact JSON.
  public static func json(_ value: JSON, status: Int = 200) -> Response {
    Response(status, contentType: "application/json; charset=utf-8", body: value.bytes())
  }

  /// Neither content type nor body.
  public static func empty(_ status: Int) -> Response {
    Response(status, contentType: nil, body: [])
  }

  /// The hot path: allocates nothing.
  public static func prepared(_ response: PreparedResponse) -> Response {
    Response(response.status, contentType: nil, headers: [], body: .prepared(response))
  }

  /// A body of unknown length. The response is complete when `body` returns.
  public static func stream(
    status: Int = 200, contentType: String? = nil, headers: [(name: String, value: String)] = [],
    _ body: @escaping @MainActor (BodyWriter) async -> Void
  ) -> Response {
    Response(Status(status), contentType: contentType, headers: headers, body: .stream(body))
  }

  /// `{"status":"failed","message":…}`, the form of most failures (specification, http-api).
  static func failed(_ status: Int, _ message: String) -> Response {
    .json(["status": "failed", "message": .string(message)], status: status)
  }
}
