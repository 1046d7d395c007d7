import Database
import EventLoop
public import HTTP
import JSON
public import Logging
public import StateEngine

/// The Supervisor HTTP API: routes, authorisation, answers (specification, http-api).
///
/// What is asked often is answered from memory: an answer is serialised once and kept until the
/// state engine's revision moves. The order of checks is visible and thus part of the contract:
/// open routes, then the key, then routes that read no body, then the body, then the rest.
public final class DeviceAPI {
  let engine: StateEngine
  let host: any DeviceAPIHost
  let logger: Logger

  /// Serialised answers for callers without restrictions, by route.
  var cache: [CachedAnswer: (revision: UInt64, answer: PreparedResponse)] = [:]

  enum CachedAnswer: Hashable { case stateStatus, applicationsState }

  public init(engine: StateEngine, host: any DeviceAPIHost, logger: Logger) {
    self.engine = engine
    self.host = host
    self.logger = logger
  }

  /// The table of the API, for the server.
  public var pipeline: Pipeline {
    var pipeline = Pipeline()
    let ok = PreparedResponse(.html("OK"))
    let healthy = PreparedResponse(.text(""))
    pipeline.open = [
      Route(.get, "/ping") { _ in .prepared(ok) },
      Route(.get, "/v1/healthy") { [unowned self] _ in
        if host.isHealthy { return .prepared(healthy) }
        logger.error("Healthcheck failed")
        return .html("Unhealthy", status: 500)
      },
    ]
    pipeline.authorize = { [unowned self] request in authorize(request) }
    pipeline.routes = stateRoutes + localRoutes + systemRoutes
    pipeline.bodyFailure = { .failure($0, status: 503) }
    pipeline.onFinish = { [unowned self] in log($0) }
    return pipeline
  }

  /// - Returns: the answer to a request without a valid key, nil to go on.
  private func authorize(_ request: Request) -> Response? {
    guard host.isAuthorizationRequired else {
      request.context = Caller.everyone
      return nil
    }
    guard let presented = request.presentedKey, let key = engine.store.keys.find(presented) else {
      return .text("Unauthorized", status: 401)
    }
    request.context = Caller(key: key)
    return nil
  }

  /// One record a request; the busiest two leave none.
  private func log(_ exchange: Exchange) {
    guard logger.logLevel <= .debug, exchange.path != "/ping", exchange.path != "/v1/healthy" else { return }
    logger.debug(
      "\(exchange.method) \(exchange.path) \(exchange.status) - \(exchange.duration.milliseconds) ms")
  }

  /// The kept answer for `key`, made anew when the device's state has moved on.
  func cached(_ key: CachedAnswer, _ make: () -> Response) -> Response {
    if let kept = cache[key], kept.revision == engine.revision { return .prepared(kept.answer) }
    let answer = PreparedResponse(make())
    cache[key] = (engine.revision, answer)
    return .prepared(answer)
  }
}

/// What the API needs of the agent around it.
public protocol DeviceAPIHost: AnyObject {
  /// False in local mode and without an API endpoint; asked at every request.
  var isAuthorizationRequired: Bool { get }
  var isLocalMode: Bool { get }
  var isHealthy: Bool { get }
  /// Semantic version, with the build tag.
  var version: String { get }
  var deviceName: String { get }
  var deviceType: String { get }
  var architecture: String { get }
  /// Stored device configuration with the defaults of what is not set.
  var effectiveConfig: [String: String] { get }
}
