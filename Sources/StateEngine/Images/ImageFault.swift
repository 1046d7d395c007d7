public import Engine

/// Why an image could not be brought to the device, in terms that a person can act on.
///
/// The engine tells it in English sentences of its own, of the registry's and of Go's libraries;
/// the status code of its answer says little (a refused connection and a full disk are both 500).
public nonisolated struct ImageFault: Sendable, Hashable {
  public enum Kind: String, Sendable, CaseIterable {
    case registryUnreachable = "the registry cannot be reached"
    case accessDenied = "the registry refuses access"
    case rateLimited = "the registry asks to wait"
    case notFound = "the registry does not have the image"
    case damaged = "what the registry sent is damaged or incomplete"
    case diskFull = "no space is left for it"
    case engineLost = "the connection to the engine was lost"
    case engineSilent = "the engine does not answer"
    case deltaPending = "the delta is not ready"
    case deltaRefused = "the delta service failed"
    case other = "the download failed"
  }

  public let kind: Kind
  /// The words of whoever noticed it.
  public let message: String

  public init(_ kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }

  public init(_ error: EngineError) {
    let kind: Kind =
      switch error.kind {
      case .unreachable, .interrupted: .engineLost
      case .timeout: .engineSilent
      case .status, .reported: ImageFault.kind(ofText: error.message, status: error.statusCode)
      case .cancelled, .malformedAnswer, .invalidCall: .other
      }
    self.init(kind, message: error.message)
  }

  /// What it is, then the words of whoever noticed it.
  public var text: String { kind == .other ? message : "\(kind.rawValue): \(message)" }

  /// The first group that has a phrase in the text decides.
  private static let phrases: [(Kind, [String])] = [
    (.diskFull, ["no space left on device", "disk quota exceeded"]),
    (.rateLimited, ["toomanyrequests", "too many requests"]),
    (
      .accessDenied,
      [
        "unauthorized", "authentication required", "denied", "forbidden", "no basic auth credentials",
        "invalid username/password", "401 ", "403 ",
      ]
    ),
    (
      .damaged,
      [
        "verification failed", "unexpected eof", "unexpected end", "invalid checksum", "does not match",
        "unexpected commit digest", "flate:", "gzip:", "invalid tar", "invalid character", "short read",
      ]
    ),
    (
      .registryUnreachable,
      [
        "connection refused", "no such host", "i/o timeout", "network is unreachable", "no route to host",
        "tls handshake", "connection reset", "deadline exceeded", "client.timeout", "x509:",
        "server misbehaving", ": eof", "server gave http response", "502 ", "503 ", "504 ",
        "request canceled",
      ]
    ),
    (.notFound, ["manifest unknown", "name unknown", "not found", "no such image", "does not exist"]),
  ]

  private static func kind(ofText text: String, status: Int?) -> Kind {
    let text = text.lowercased()
    for (kind, phrases) in phrases where phrases.contains(where: text.contains) { return kind }
    return status == 404 ? .notFound : .other
  }
}
