import Database
public import Engine
import EventLoop
public import HTTP
import JSON
public import Logging
public import StateEngine

/// The Supervisor HTTP API: routes, authorisation, answers (specification, http-api).
///
/// The order of checks is visible and thus part of the contract: open routes, then the key, then
/// routes that read no body, then the body, then the rest. What is asked often is answered from
/// memory: an answer is serialised once and kept until what it says has changed.
public final class DeviceAPI {
  let engine: StateEngine
  let host: any DeviceAPIHost
  let logger: Logger
  let keys: KeyRing
  let everyone = Caller.unrestricted()
  let metrics: RequestMetrics
  var memory = ProcessMemory()
  lazy var events = EventFeed(engine)
  let journalStreams = StreamPlaces(limit: journalStreamLimit)
  let localLogs: LocalLogs
  /// The server's numbers, for `GET /v2/metrics`.
  public var serverCounters: () -> Server.Counters = { Server.Counters() }
  /// Calls on the system bus since the start.
  public var busCalls: () -> Int = { 0 }
  /// Lines that went to the cloud, for `GET /v2/metrics`; those of `GET /v2/local/logs` are counted here.
  public var logCounters: () -> LogCounters = { LogCounters() }

  /// - Parameter client: asked once where the engine's containers log to.
  public init(engine: StateEngine, client: EngineClient?, host: any DeviceAPIHost, logger: Logger) {
    self.engine = engine
    self.host = host
    self.logger = logger
    keys = KeyRing(engine.store.keys, everyone: everyone)
    metrics = RequestMetrics()
    localLogs = LocalLogs(
      engine: engine, client: client, logger: logger, source: { [unowned host] in host.journalSource },
      isActive: { [unowned host] in host.isLocalMode && host.areLogsSent })
  }

  /// Shows a line of the agent itself to those who follow the device's logs (http-api 5.17).
  public func showSystemEvent(_ text: String, isError: Bool) { localLogs.publish(text, isError: isError) }

  /// To be called whenever the state engine has changed.
  public func noteChange() {
    events.note()
    localLogs.noteContainers()
  }

  /// Every route, group by group; see `APIRoute` for how a group is added.
  public var routes: [APIRoute] {
    openRoutes + systemRoutes + deviceRoutes + appRoutes + serviceRoutes + stateRoutes + tagRoutes
      + localRoutes + hostRoutes + journalRoutes + extensionRoutes
  }

  /// The table of the API, for the server.
  public var pipeline: Pipeline {
    var pipeline = Pipeline()
    let routes = routes
    let open = routes.filter { $0.scope == .open }
    let bodiless = routes.filter { $0.scope != .open && !$0.readsBody }
    let others = routes.filter { $0.scope != .open && $0.readsBody }
    pipeline.open = open.map(\.route)
    pipeline.bodiless = bodiless.map(\.route)
    pipeline.routes = others.map(\.route)
    pipeline.authorize = { [unowned self] request in authorize(request) }
    pipeline.bodyFailure = { .failure($0, status: 503) }
    metrics.routes = (open + bodiless + others).map { ($0.method.name, $0.path) }
    let quiet = open.count
    pipeline.onFinish = { [unowned self] exchange in
      metrics.count(exchange)
      // The open routes are asked by machines, all the time.
      if exchange.routeNumber.map({ $0 >= quiet }) ?? true { log(exchange) }
    }
    return pipeline
  }

  /// - Returns: the answer to a request without a valid key, nil to go on.
  private func authorize(_ request: Request) -> Response? {
    guard host.isAuthorizationRequired else {
      request.context = everyone
      return nil
    }
    guard let caller = request.withPresentedKey({ keys.caller($0) }) else {
      return .text("Unauthorized", status: 401)
    }
    request.context = caller
    return nil
  }

  /// One record a request: `debug` for reading that succeeded, `info` for the rest. Never the query,
  /// which may hold a key.
  private func log(_ exchange: Exchange) {
    let level: Logger.Level = exchange.isReading && exchange.status < 400 ? .debug : .info
    guard logger.logLevel <= level else { return }
    let microseconds = exchange.duration.clampedNanoseconds / 1000
    let scope = (exchange.context as? Caller)?.scopeText ?? "none"
    logger.log(
      level: level, "\(exchange.method) \(exchange.path) \(exchange.status) - \(microseconds / 1000) ms",
      metadata: [
        "METHOD": "\(exchange.method)", "PATH": "\(exchange.path)", "STATUS": "\(exchange.status)",
        "BYTES": "\(exchange.byteCount)", "MICROSECONDS": "\(microseconds)", "SCOPE": "\(scope)",
      ])
  }
}
