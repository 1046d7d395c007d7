import JSON

/// One row of the table: a method, a pattern such as `/v2/applications/:appId/state`, and what
/// answers.
public struct Route {
  public let method: Method
  public let pattern: String
  /// Returns nil when it has asked for time with `Request.deferAnswer()`.
  let handler: (Request) -> Response?
  fileprivate let segments: [Segment]

  fileprivate enum Segment {
    /// In lower case.
    case literal([UInt8])
    case parameter(String)
  }

  /// - Parameter pattern: begins with a slash and does not end with one.
  public init(_ method: Method, _ pattern: String, _ handler: @escaping (Request) -> Response?) {
    self.method = method
    self.pattern = pattern
    self.handler = handler
    segments = pattern.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map {
      $0.hasPrefix(":") ? .parameter(String($0.dropFirst())) : .literal(Array($0.lowercased().utf8))
    }
  }

  /// Compares without regard to case and to one trailing slash; allocates nothing.
  fileprivate func matches(_ path: UnsafeBufferPointer<UInt8>) -> Bool {
    var at = 0
    for segment in segments {
      guard at < path.count, path[at] == UInt8(ascii: "/") else { return false }
      at += 1
      switch segment {
      case .literal(let bytes):
        guard path.count - at >= bytes.count else { return false }
        for position in 0..<bytes.count where lowercased(path[at + position]) != bytes[position] {
          return false
        }
        at += bytes.count
      case .parameter:
        let start = at
        while at < path.count, path[at] != UInt8(ascii: "/") { at += 1 }
        guard at > start else { return false }
      }
    }
    return at == path.count || at == path.count - 1 && path[at] == UInt8(ascii: "/")
  }

  /// Fills in the parameters of a path that matches.
  fileprivate func takeParameters(_ request: Request) {
    let parts = request.pathBytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: true)
    var found: [(name: String, value: String)] = []
    for (segment, part) in zip(segments, parts) {
      guard case .parameter(let name) = segment else { continue }
      guard let value = PercentCoding.decode(part) else {
        request.parameterFailure = String(decoding: part, as: UTF8.self)
        return
      }
      found.append((name, value))
    }
    request.setParameters(found)
  }

  fileprivate var hasParameters: Bool {
    segments.contains { if case .parameter = $0 { true } else { false } }
  }
}

/// The whole table of a server, in the order in which it is walked: open routes, authorisation,
/// routes that read no body, the body, the other routes, 404 (http-api 2.2).
public struct Pipeline {
  public var open: [Route] = []
  /// An answer ends the walk; nil goes on.
  public var authorize: (Request) -> Response? = { _ in nil }
  public var bodiless: [Route] = []
  public var routes: [Route] = []
  /// The answer to a body that cannot be read, or a path that cannot be decoded.
  public var bodyFailure: (String) -> Response = { .text($0, status: 503) }
  /// Called when an answer has been handed to the socket.
  public var onFinish: ((Exchange) -> Void)?

  public init() {}

  /// The answer, or nil when it comes later.
  func answer(_ request: Request) -> Response? {
    if let route = Self.find(request, open) { return run(route, request) }
    if let refusal = authorize(request) { return refusal }
    if let route = Self.find(request, bodiless) { return run(route, request) }
    if request.isBodyTooLarge || !request.body.isEmpty {
      do throws(BodyError) { _ = try request.parsedBody() } catch { return bodyFailure(error.message) }
    }
    if let route = Self.find(request, routes) { return run(route, request) }
    if request.method == .options, let allowed = allowedMethods(request) {
      return Response(
        200, contentType: "text/html; charset=utf-8", body: Array(allowed.utf8), headers: [("Allow", allowed)]
      )
    }
    return Self.notFound(request)
  }

  private func run(_ route: Route, _ request: Request) -> Response? {
    if route.hasParameters {
      route.takeParameters(request)
      if let text = request.parameterFailure { return bodyFailure("Failed to decode param '\(text)'") }
    }
    return route.handler(request)
  }

  private static func find(_ request: Request, _ routes: [Route]) -> Route? {
    let path = request.pathBytes
    let method = request.method == .head ? .get : request.method
    for route in routes where route.method == method && route.matches(path) { return route }
    return nil
  }

  private func allowedMethods(_ request: Request) -> String? {
    let path = request.pathBytes
    var names: [String] = []
    for route in open + bodiless + routes where route.matches(path) && !names.contains(route.method.rawValue)
    {
      names.append(route.method.rawValue)
      if route.method == .get { names.append(Method.head.rawValue) }
    }
    return names.isEmpty ? nil : names.joined(separator: ",")
  }

  /// The page of http-api 2.3.
  private static func notFound(_ request: Request) -> Response {
    let line = "Cannot \(request.methodText) \(request.path)".reduce(into: "") { text, character in
      switch character {
      case "&": text += "&amp;"
      case "<": text += "&lt;"
      case ">": text += "&gt;"
      case "\"": text += "&quot;"
      case "'": text += "&#39;"
      default: text.append(character)
      }
    }
    let page = """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <title>Error</title>
      </head>
      <body>
      <pre>\(line)</pre>
      </body>
      </html>

      """
    return Response(
      404, contentType: "text/html; charset=utf-8", body: Array(page.utf8),
      headers: [
        ("Content-Security-Policy", "default-src 'none'"), ("X-Content-Type-Options", "nosniff"),
      ])
  }
}
