/// Takes a request through the pipeline: open routes, authorisation, routes that do not read
/// the body, the body, the other routes, and what answers when none fits (specification,
/// http-api 2.2 and 2.3).
final class Router {
  let pipeline: Pipeline
  private let open: RouteTable
  private let bodiless: RouteTable
  private let routes: RouteTable
  private var ranges: [Range<Int>] = []
  private let bodilessStart: Int
  private let routesStart: Int

  /// What is known once the head has been read.
  enum Decision {
    case route(Route)
    case answer(Response)
    /// Nothing can be said before the body is there.
    case readBody
  }

  init(_ pipeline: Pipeline) {
    self.pipeline = pipeline
    bodilessStart = pipeline.open.count
    routesStart = bodilessStart + pipeline.bodiless.count
    open = RouteTable(pipeline.open.map { ($0.method, $0.pattern) })
    bodiless = RouteTable(pipeline.bodiless.map { ($0.method, $0.pattern) })
    routes = RouteTable(pipeline.routes.map { ($0.method, $0.pattern) })
  }

  func decide(_ request: Request) -> Decision {
    let path = request.bytes(request.parser.path)
    if case .route(let position) = open.match(request.method, path, parameters: &ranges) {
      request.routeNumber = position
      note(open, position, request)
      return .route(pipeline.open[position])
    }
    if let denial = pipeline.authorize(request) { return .answer(denial) }
    switch bodiless.match(request.method, path, parameters: &ranges) {
    case .route(let position):
      request.routeNumber = bodilessStart + position
      note(bodiless, position, request)
      return .route(pipeline.bodiless[position])
    case .undecodable(let range): return .answer(undecodable(path.slice(range)))
    case .none: return .readBody
    }
  }

  /// The second part of the way, with the body at hand.
  func decideWithBody(_ request: Request) -> Decision {
    if request.hasBody {
      do { _ = try request.parsedBody() } catch {
        return .answer(pipeline.bodyFailure(error.message))
      }
    }
    let path = request.bytes(request.parser.path)
    switch routes.match(request.method, path, parameters: &ranges) {
    case .route(let position):
      request.routeNumber = routesStart + position
      note(routes, position, request)
      return .route(pipeline.routes[position])
    case .undecodable(let range): return .answer(undecodable(path.slice(range)))
    case .none: break
    }
    if request.method == .options {
      let methods = [open, bodiless, routes].flatMap { $0.methods(of: path) }
      if !methods.isEmpty {
        let list = methods.map(\.name).joined(separator: ",")
        var response = Response.html(list)
        response.headers = [("Allow", list)]
        return .answer(response)
      }
    }
    return .answer(NotFound.response(to: request))
  }

  private func note(_ table: RouteTable, _ position: Int, _ request: Request) {
    guard !ranges.isEmpty else { return }
    let names = table.parameterNames(position)
    let start = Int(request.parser.path.start)
    // Ranges of a longer pattern that did not match in the end may be left; they have no names.
    for (name, range) in zip(names, ranges) {
      request.parameters.append(
        Request.Parameter(name: name, range: range.lowerBound + start..<range.upperBound + start))
    }
  }

  private func undecodable(_ raw: UnsafeBufferPointer<UInt8>) -> Response {
    pipeline.bodyFailure("Failed to decode param '\(String(decoding: raw, as: UTF8.self))'")
  }
}
