import Engine
import EventLoop
import Glibc
import HTTPClient
import JSON
import Model

/// Asks the delta service for the difference between two images (state-engine 6.6,
/// target-state 4.7).
final class DeltaClient {
  nonisolated enum Answer: Hashable, Sendable {
    /// Name of an image whose pull applies the delta, and the token for that pull.
    case image(String, token: String)
    /// The service is still at work: ask again later.
    case pending
    /// There will be no delta between these two; the reason.
    case none(String)
  }

  nonisolated struct Failure: Error, Hashable {
    var message: String
    var isCancellation = false
  }

  /// A token is used again for this long (target-state 4.7).
  static let tokenLifetime = Duration.seconds(600)
  /// Tokens that are remembered; each is for one pair of repositories.
  static let tokenLimit = 32
  /// Answers are one token or one name.
  private static let answerLimit = 256 * 1024

  private let client: HTTPClient
  /// Either service has asked for time until then.
  private var quietUntil: MonotonicTime?
  private var tokens: [String: (text: String, until: MonotonicTime)] = [:]

  init(client: HTTPClient = .shared) { self.client = client }

  func request(
    from source: ImageReference, to destination: ImageReference, settings: DeltaSettings
  ) async throws(Failure) -> Answer {
    let token = try await token(from: source, to: destination, settings: settings)
    let names = (
      source: PercentEncoding.queryValue(source.normalized),
      destination: PercentEncoding.queryValue(destination.normalized)
    )
    let url =
      "\(settings.endpoint)/api/v\(settings.version)/delta?src=\(names.source)&dest=\(names.destination)"
    let response = try await send(url, authorization: "Bearer \(token)", settings: settings)
    if response.status == 401 { tokens = [:] }
    return try Self.answer(status: response.status, body: response.body, token: token)
  }

  /// What an answer of version 3 means.
  nonisolated static func answer(status: Int, body: [UInt8], token: String) throws(Failure) -> Answer {
    switch status {
    case 200:
      guard let json = try? JSON(parsing: body), let name = json["name"]?.stringValue, !name.isEmpty else {
        throw Failure(message: "the delta service named no image")
      }
      return .image(name, token: token)
    case 502, 504: return .pending
    case 401: throw Failure(message: "the delta service refused the token (401)")
    case 400..<500: return .none("the delta service has none (\(status))")
    default: throw Failure(message: "the delta service answered \(status)")
    }
  }

  // MARK: Token

  private func token(
    from source: ImageReference, to destination: ImageReference, settings: DeltaSettings
  ) async throws(Failure) -> String {
    let url = Self.tokenURL(from: source, to: destination, apiEndpoint: settings.apiEndpoint)
    let now = MonotonicTime.read()
    if let token = tokens[url], token.until > now { return token.text }
    let credentials = Base64.encode(Array("\(settings.username):\(settings.key)".utf8))
    let response = try await send(url, authorization: "Basic \(credentials)", settings: settings)
    guard response.status == 200 else {
      throw Failure(message: "Authentication error: the token service answered \(response.status)")
    }
    guard let json = try? JSON(parsing: response.body), let text = json["token"]?.stringValue, !text.isEmpty
    else { throw Failure(message: "Authentication error: the token service sent no token") }
    tokens = tokens.filter { $0.value.until > now }
    if tokens.count >= Self.tokenLimit { tokens = [:] }
    tokens[url] = (text, MonotonicTime.read() + Self.tokenLifetime)
    return text
  }

  nonisolated static func tokenURL(
    from source: ImageReference, to destination: ImageReference, apiEndpoint: String
  ) -> String {
    "\(apiEndpoint)/auth/v1/token?service=\(PercentEncoding.queryValue(destination.registry ?? ""))"
      + "&scope=\(PercentEncoding.queryValue("repository:\(destination.repository):pull"))"
      + "&scope=\(PercentEncoding.queryValue("repository:\(source.repository):pull"))"
  }

  // MARK: Requests

  /// How long nothing is asked after an answer with this advice, lengthened by up to a fifth so that not all come back at
  /// once; nil for not at all.
  nonisolated static func delay(_ advice: RetryAdvice) -> Duration? {
    guard advice.after != nil || advice.isOverloaded else { return nil }
    let least = advice.isOverloaded ? RetryAdvice.overloadDelay : .zero
    return max(advice.after ?? .zero, least) * Double.random(in: 1...1.2)
  }

  private func send(
    _ url: String, authorization: String, settings: DeltaSettings
  ) async throws(Failure) -> ClientResponse {
    guard quietUntil.map({ $0 <= .read() }) ?? true else {
      throw Failure(message: "the delta service has asked for time")
    }
    let limit = settings.requestTimeout
    var headers = [
      (name: "Authorization", value: authorization), (name: "Accept", value: "application/json"),
    ]
    if let userAgent = settings.userAgent { headers.append(("User-Agent", userAgent)) }
    let request = ClientRequest(
      "GET", url, headers: headers,
      timeouts: .init(connect: limit, firstByte: limit, idle: limit, total: limit),
      bodyLimit: Self.answerLimit)
    do throws(ClientError) {
      let response = try await client.send(request)
      let advice = RetryAdvice(
        status: response.status, retryAfter: response.headers["Retry-After"], now: Int(time(nil)))
      quietUntil = Self.delay(advice).map { .read() + $0 }
      return response
    } catch {
      throw Failure(message: error.message, isCancellation: error.kind == .cancelled)
    }
  }
}
