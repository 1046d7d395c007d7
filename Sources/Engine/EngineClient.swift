import EventLoop
import HTTPClient
import JSON

/// Client of the Docker Engine API, version 1.41, which Docker Engine 20.10 and later and
/// balenaEngine speak.
///
/// Bodies and results of inspection are JSON values as the engine spells them; what they mean
/// is the business of `Model`. Every failure is an `EngineError`; answers that callers decide
/// by (304 for a container that runs already, for instance) are values.
///
/// The client holds no connection by itself: an engine that is restarted is found again by
/// the next call, and the client of a missing engine is cheap.
public final class EngineClient {
  /// The lowest version that has everything we use, and the highest of balenaEngine.
  public static let apiVersion = "1.41"

  public let endpoint: EngineEndpoint
  /// Calls made, and those of them that had no answer or one that says no.
  public private(set) var callCount = 0
  public private(set) var failureCount = 0
  private let client: HTTPClient

  public init(_ endpoint: EngineEndpoint, client: HTTPClient = .shared) {
    self.endpoint = endpoint
    self.client = client
  }

  // MARK: Calls

  /// One call. `query` values are percent-encoded here; `path` must be already.
  struct Call {
    var method: String
    var path: String
    var query: [(String, String)] = []
    var headers: [(name: String, value: String)] = []
    var body = ClientRequest.Body.none
    var timeouts = EngineTimeouts.query

    /// How a person would name it: without the query, which may be long.
    var name: String { "\(method) \(path)" }
  }

  /// The answer's body as JSON; `null` when it is empty.
  func json(_ call: Call) async throws(EngineError) -> JSON {
    let response = try await send(call)
    guard !response.body.isEmpty else { return .null }
    do {
      return try JSON(parsing: response.body)
    } catch {
      throw EngineError(kind: .malformedAnswer, call: call.name, message: error.description)
    }
  }

  /// Any 2xx answer, or one of the statuses that the caller wants to see.
  @discardableResult
  func send(_ call: Call, alsoAccepting accepted: Set<Int> = []) async throws(EngineError) -> ClientResponse {
    let response: ClientResponse
    callCount += 1
    do {
      response = try await client.send(request(call))
    } catch {
      failureCount += 1
      throw EngineError(error, call: call.name)
    }
    guard (200...299).contains(response.status) || accepted.contains(response.status) else {
      failureCount += 1
      throw EngineError(status: response.status, body: response.body, call: call.name)
    }
    return response
  }

  /// An answer of JSON lines that is read as it comes.
  func lines(_ call: Call) async throws(EngineError) -> JSONLines {
    let response: StreamedResponse
    callCount += 1
    do {
      response = try await client.stream(request(call))
    } catch {
      failureCount += 1
      throw EngineError(error, call: call.name)
    }
    guard (200...299).contains(response.status) else {
      failureCount += 1
      let body = await Self.beginning(of: response.body)
      throw EngineError(status: response.status, body: body, call: call.name)
    }
    return JSONLines(response.body, call: call.name)
  }

  /// An error's text; what it lacks is not worth another error.
  private static func beginning(of body: ResponseBody) async -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < EngineError.bodyLimit, let chunk = try? await body.next() { bytes += chunk }
    return bytes
  }

  private func request(_ call: Call) -> ClientRequest {
    var url = "\(endpoint.origin)/v\(Self.apiVersion)\(call.path)"
    for (position, (name, value)) in call.query.enumerated() {
      url += "\(position == 0 ? "?" : "&")\(name)=\(PercentEncoding.queryValue(value))"
    }
    return ClientRequest(
      call.method, url, unixSocket: endpoint.socketPath, headers: call.headers, body: call.body,
      timeouts: call.timeouts, bodyLimit: EngineTimeouts.answerLimit)
  }
}

extension EngineClient.Call {
  /// A call with a JSON body.
  init(
    _ method: String, _ path: String, query: [(String, String)] = [], json: JSON,
    timeouts: ClientRequest.Timeouts = EngineTimeouts.change
  ) {
    self.init(
      method: method, path: path, query: query, headers: [("Content-Type", "application/json")],
      body: .bytes(json.bytes()), timeouts: timeouts)
  }
}

/// Limits of the calls. The engine does its work while the request waits, on storage that may
/// be an SD card under load, so the limits are far above what is normal: they end a call to an
/// engine that hangs, nothing else.
nonisolated enum EngineTimeouts {
  /// A local socket accepts at once; only a full backlog takes longer.
  private static let connect = Duration.seconds(10)

  /// Lists and inspections wait for locks that a container's start or removal may hold.
  static let query = answer(within: .seconds(60))
  /// Creating, starting, renaming, removing: mounts, network set-up and fsync.
  static let change = answer(within: .seconds(180))
  /// Removing an image deletes its layers' files one by one.
  static let removal = answer(within: .seconds(600))
  /// The engine talks to the registry before it answers. Between two progress lines lie at
  /// most the retries of one layer, or the last fsync of a large one.
  static let pull = ClientRequest.Timeouts(
    connect: connect, firstByte: .seconds(300), idle: .seconds(600), total: nil)
  /// Silent for as long as nothing happens.
  static let endless = ClientRequest.Timeouts(connect: connect, firstByte: nil, idle: nil, total: nil)
  /// The head of the event stream comes at once; the events need not.
  static let events = ClientRequest.Timeouts(
    connect: connect, firstByte: .seconds(60), idle: nil, total: nil)
  /// After the container's own time, the engine kills it and waits for the kernel.
  static let stopMargin = Duration.seconds(60)

  static func stop(after own: Duration) -> ClientRequest.Timeouts { answer(within: own + stopMargin) }

  /// A list of a thousand containers has about 2 MiB.
  static let answerLimit = 32 * 1024 * 1024
  /// One line of progress or one event; an event carries the container's labels.
  static let lineLimit = 1024 * 1024

  private static func answer(within limit: Duration) -> ClientRequest.Timeouts {
    ClientRequest.Timeouts(connect: connect, firstByte: limit, idle: .seconds(60), total: nil)
  }
}
