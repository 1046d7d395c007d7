import HTTPClient
import JSON

/// A call to the engine that failed.
public nonisolated struct EngineError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Kind: Hashable, Sendable {
    /// The engine answered with this status, outside 2xx.
    case status(Int)
    /// The engine reported it in the middle of a stream, as the `error` of a pull.
    case reported
    /// No socket, refused, no route.
    case unreachable
    case timeout
    case cancelled
    /// The connection ended before the answer did.
    case interrupted
    /// The answer is not what the API promises.
    case malformedAnswer
    /// The call cannot be sent at all.
    case invalidCall
  }

  /// Bytes of an error's body, and of its message, that are kept.
  static let bodyLimit = 4096

  public let kind: Kind
  /// Method and path, such as `POST /containers/web/start`.
  public let call: String
  /// The engine's own words where it has some (`message` of its answer), else ours, which name
  /// the socket.
  public let message: String

  public init(kind: Kind, call: String, message: String) {
    self.kind = kind
    self.call = call
    self.message = message.utf8.count <= Self.bodyLimit ? message : Self.clipped(message)
  }

  private static func clipped(_ text: String) -> String {
    String(decoding: text.utf8.prefix(bodyLimit), as: UTF8.self) + "…"
  }

  public var statusCode: Int? {
    if case .status(let code) = kind { code } else { nil }
  }

  public var isNotFound: Bool { statusCode == 404 }
  public var isConflict: Bool { statusCode == 409 }

  /// The engine is away, or went away in the middle: it may do it when it is back.
  public var isWithoutAnswer: Bool {
    switch kind {
    case .unreachable, .timeout, .interrupted: true
    case .status, .reported, .cancelled, .malformedAnswer, .invalidCall: false
    }
  }

  public var description: String {
    switch kind {
    case .status(let code): "engine: \(call): \(message) (\(code))"
    default: "engine: \(call): \(message)"
    }
  }

  init(status: Int, body: [UInt8], call: String) {
    let text = (try? JSON(parsing: body))?["message"]?.stringValue
    let raw = String(decoding: body.prefix(Self.bodyLimit), as: UTF8.self)
    self.init(
      kind: .status(status), call: call, message: text ?? (raw.isEmpty ? "no explanation given" : raw))
  }

  init(_ error: ClientError, call: String) {
    let kind: Kind =
      switch error.kind {
      case .unreachable, .nameNotResolved, .tls, .other: .unreachable
      case .timeout: .timeout
      case .cancelled: .cancelled
      case .interrupted, .bodyFailed: .interrupted
      case .malformedAnswer, .answerTooLarge, .tooManyRedirects: .malformedAnswer
      case .invalidRequest: .invalidCall
      }
    self.init(kind: kind, call: call, message: error.message)
  }
}
