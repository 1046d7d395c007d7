import EventLoop
import Glibc
public import HTTPClient
public import HostConfiguration
import JSON
import Logging

/// Why a call to the cloud has not brought what it should.
public nonisolated struct CloudFailure: Error, Sendable, CustomStringConvertible {
  /// nil when there was no answer.
  public var status: Int?
  /// One line for a person; names the peer and holds no key.
  public var message: String
  public var advice = RetryAdvice()

  public init(status: Int? = nil, _ message: String) {
    self.status = status
    self.message = message
  }

  public var description: String { message }

  /// The cloud has understood the call and says no: trying the same again will not help.
  public var isRefusal: Bool { status.map { (400...499).contains($0) && $0 != 408 && $0 != 429 } ?? false }
}

/// An answer of the cloud.
public nonisolated struct CloudAnswer: Sendable {
  public let status: Int
  public let headers: HeaderFields
  public let body: [UInt8]

  public var isSuccess: Bool { (200...299).contains(status) }
}

/// Calls to the cloud: addresses, keys, headers and limits that all of them share.
///
/// Settings are read at each call, so that a new key, endpoint or timeout holds from the next one
/// on (cloud, W7). All calls share the program's connections and TLS sessions.
public final class CloudClient {
  let settings: Settings
  private let http: HTTPClient
  private let userAgent: () -> String
  let logger: Logger
  /// Keys beside those of config.json that the cloud is told.
  var furtherKeys: () -> [String] = { [] }
  /// The cloud has answered, whatever.
  var onAnswer: () -> Void = {}
  /// There was no way to the cloud, or nothing came back.
  var onNoAnswer: () -> Void = {}

  /// Answers other than a target state.
  static let answerLimit = 1 << 20
  /// Redirections of a GET.
  static let redirectLimit = 10
  /// Characters of an answer that a person is shown, and bytes in which keys are looked for; keys are a few
  /// dozen bytes long, so that one at the end of the latter is never shown.
  private static let shownLimit = 200
  private static let searchedLimit = 16 * 1024
  /// Before 2024 no certificate of today is valid.
  private static let earliestClock = 1_704_067_200

  public init(
    settings: Settings, http: HTTPClient, logger: Logger, userAgent: @escaping () -> String
  ) {
    self.settings = settings
    self.http = http
    self.logger = logger
    self.userAgent = userAgent
  }

  public var uuid: String { settings.string(.uuid) ?? "" }
  var deviceKey: String { settings.string(.deviceApiKey) ?? "" }
  /// Base of the calls that an override moves.
  var base: String { settings.effectiveApiEndpoint }
  /// Base of the calls that it does not.
  var endpoint: String { settings.string(.apiEndpoint) ?? "" }
  /// Whom reports are made to now.
  var audience: ReportAudience {
    ReportAudience(endpoint: base, uuid: uuid, deviceId: settings.int(.deviceId))
  }
  /// Whom the cloud is asked as, and which cloud: what was asked before it changed does not count afterwards.
  var identity: [String] { [endpoint, base, uuid, deviceKey, settings.string(.apiKey) ?? ""] }

  /// - Parameter asked: `identity` when the call began.
  func check(_ asked: [String]) throws(CloudFailure) {
    guard identity == asked else {
      throw CloudFailure("the device's cloud or identity has changed meanwhile: the answer does not count")
    }
  }

  var requestTimeout: Duration { .milliseconds(max(Int64(settings.int(.apiRequestTimeout)), 1000)) }
  /// No back-off waits longer.
  var pollInterval: Duration { settings.pollInterval }

  /// Sends a request and reads the answer; any status is an answer.
  func send(
    _ method: String, _ url: String, key: String?, headers: [(name: String, value: String)] = [],
    body: JSON? = Optional.none, timeout: Duration? = nil, total: Duration = CloudTimes.exchange,
    limit: Int = CloudClient.answerLimit
  ) async throws(CloudFailure) -> CloudAnswer {
    let request = request(
      method, url, key: key, headers: headers, body: body, timeout: timeout, total: total, limit: limit)
    do throws(ClientError) {
      let answer = try await http.send(request)
      onAnswer()
      return CloudAnswer(status: answer.status, headers: answer.headers, body: answer.body)
    } catch {
      if [.nameNotResolved, .unreachable, .timeout].contains(error.kind) { onNoAnswer() }
      throw Self.failure(error)
    }
  }

  /// Sends a request; an answer other than 2xx is a failure.
  func succeed(
    _ method: String, _ url: String, key: String?, body: JSON? = Optional.none, timeout: Duration? = nil,
    limit: Int = CloudClient.answerLimit
  ) async throws(CloudFailure) -> CloudAnswer {
    let answer = try await send(method, url, key: key, body: body, timeout: timeout, limit: limit)
    guard answer.isSuccess else { throw failure(answer, of: "\(method) \(Self.path(of: url))") }
    return answer
  }

  /// Rows of an OData answer, `{"d": [...]}`.
  func rows(_ url: String, key: String) async throws(CloudFailure) -> [JSON] {
    let answer = try await succeed("GET", url, key: key)
    guard let rows = (try? JSON(parsing: answer.body))?["d"]?.arrayValue else {
      throw CloudFailure("\(CloudAddress.origin(of: url)): the answer is no OData list")
    }
    return rows
  }

  func request(
    _ method: String, _ url: String, key: String?, headers: [(name: String, value: String)] = [],
    body: JSON? = Optional.none, timeout: Duration? = nil, total: Duration? = CloudTimes.exchange,
    limit: Int = CloudClient.answerLimit
  ) -> ClientRequest {
    var all = [(name: "User-Agent", value: userAgent())]
    if let key, !key.isEmpty { all.append(("Authorization", "Bearer \(key)")) }
    if body != nil { all.append(("Content-Type", "application/json")) }
    all += headers
    let timeout = timeout ?? requestTimeout
    var timeouts = ClientRequest.Timeouts(connect: timeout, firstByte: timeout, idle: timeout)
    timeouts.total = total
    return ClientRequest(
      method, url, headers: all, body: body.map { .bytes($0.bytes()) } ?? .none, timeouts: timeouts,
      maximumRedirects: method == "GET" ? Self.redirectLimit : 0, acceptsEncodings: true, bodyLimit: limit)
  }

  // MARK: Failures

  /// What a person reads of an answer that was not wanted; bodies of the cloud are short texts.
  func failure(_ answer: CloudAnswer, of call: String) -> CloudFailure {
    // A key that is cut would not be found: the text is cut afterwards.
    let whole = String(decoding: answer.body.prefix(Self.searchedLimit), as: UTF8.self)
    let text = redacted(whole).prefix(Self.shownLimit).filter { !$0.isNewline && $0.asciiValue ?? 32 >= 32 }
    var failure = CloudFailure(
      status: answer.status, "\(call): \(answer.status)\(text.isEmpty ? "" : " \(text)")")
    failure.advice = Self.advice(answer.status, answer.headers)
    return failure
  }

  static func advice(_ status: Int, _ headers: HeaderFields) -> RetryAdvice {
    RetryAdvice(status: status, retryAfter: headers["Retry-After"], now: wallClock())
  }

  /// A server that repeats what it was sent must not bring a key into the log.
  private func redacted(_ text: String) -> String {
    var text = text
    for key in [settings.string(.deviceApiKey), settings.string(.apiKey)].compactMap({ $0 }) + furtherKeys() {
      guard key.count >= 8 else { continue }
      text = text.split(separator: key, omittingEmptySubsequences: false).joined(separator: "(hidden)")
    }
    return text
  }

  static func failure(_ error: ClientError) -> CloudFailure {
    var failure = CloudFailure(error.message)
    if error.kind == .tls, wallClock() < earliestClock {
      failure.advice.isClockWrong = true
      failure.message +=
        "; the device's clock stands before 2024 (\(wallClock()) s since 1970), when no certificate of today is valid: it is tried again until the time is set"
    }
    return failure
  }

  static func path(of url: String) -> String {
    let rest = url.dropFirst(CloudAddress.origin(of: url).count).prefix { $0 != "?" }
    return rest.isEmpty ? url : String(rest)
  }

  /// Seconds since 1970.
  static func wallClock() -> Int {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec
  }

  /// Milliseconds since 1970.
  static func wallClockMilliseconds() -> Int {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
  }
}
