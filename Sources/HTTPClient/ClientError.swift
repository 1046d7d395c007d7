/// Why there is no answer, or not all of it.
public nonisolated struct ClientError: Error, Sendable, CustomStringConvertible {
  public enum Kind: Hashable, Sendable {
    /// The URL, the method or a header cannot be sent.
    case invalidRequest
    case nameNotResolved
    /// No socket, refused, no route.
    case unreachable
    /// The other side's certificate is not trusted, or the handshake failed.
    case tls
    case timeout
    /// The task was cancelled, or the consumer dropped the body.
    case cancelled
    /// The connection ended in the middle of the exchange.
    case interrupted
    /// The other side does not speak HTTP.
    case malformedAnswer
    case answerTooLarge
    case tooManyRedirects
    /// The request's body could not be produced to its end.
    case bodyFailed
    case other
  }

  /// How far the exchange had come.
  public enum Phase: String, Hashable, Sendable {
    case connecting
    case waitingForAnswer = "waiting for the answer"
    case readingBody = "reading the answer"
  }

  public let kind: Kind
  public let phase: Phase
  /// libcurl's code (`CURLE_…`), 0 where the error is the client's own.
  public let code: Int32
  /// One line for a person, which names the peer.
  public let message: String

  public init(kind: Kind, phase: Phase, code: Int32 = 0, message: String) {
    self.kind = kind
    self.phase = phase
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
