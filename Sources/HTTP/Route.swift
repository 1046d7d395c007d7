/// A method, a pattern and what answers.
///
/// A pattern is a path whose segments may be parameters: `/v2/applications/:appId/state`. It
/// matches in any case and with one slash more at its end; a `get` route also answers HEAD.
public struct Route {
  /// Answers at once, or returns nil after it has asked for time with `Request.deferAnswer`.
  public typealias Handler = (Request) -> Response?

  public let method: Method
  public let pattern: String
  let handler: Handler

  public init(_ method: Method, _ pattern: String, _ handler: @escaping Handler) {
    self.method = method
    self.pattern = pattern
    self.handler = handler
  }
}

/// The routes, in the order in which a request passes them (specification, http-api 2.2).
public struct Pipeline {
  /// Answered without authorisation; their requests' bodies are never read.
  public var open: [Route] = []
  /// Returns the answer to a request that may go no further; nil lets it pass. Asked before
  /// any of the body is read.
  public var authorize: (Request) -> Response? = { _ in nil }
  /// Answered without reading the body, so that a broken one cannot fail them.
  public var bodiless: [Route] = []
  /// Answered after the body was read, and only if it can be.
  public var routes: [Route] = []
  /// The answer to a body or path parameter that cannot be read.
  public var bodyFailure: (String) -> Response = { .failed(503, $0) }
  /// Told of each request when its answer has been handed over.
  public var onFinish: ((Exchange) -> Void)?

  public init() {}
}

/// What happened to one request. Texts are made when they are asked for.
public struct Exchange {
  let request: Request
  public let status: Int
  /// Of the body, as sent.
  public let byteCount: Int
  /// From the arrival of the head's last byte to the answer.
  public let duration: Duration

  public var method: String { request.methodText }
  /// GET and HEAD, told without making a text.
  public var isReading: Bool { request.method == .get || request.method == .head }
  /// Without the query, which may hold a key.
  public var path: String { request.path }
  /// Position of the route in `open`, `bodiless` and `routes` of the pipeline, one after the
  /// other; nil when no route answered.
  public var routeNumber: Int? { request.routeNumber < 0 ? nil : request.routeNumber }
  /// What authorisation and handlers left with the request.
  public var context: AnyObject? { request.context }
}
