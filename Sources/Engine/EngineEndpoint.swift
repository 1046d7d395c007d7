/// Where the engine listens.
public nonisolated enum EngineEndpoint: Hashable, Sendable {
  /// Absolute path of a unix socket.
  case unix(String)
  /// `host:port`, unencrypted.
  case tcp(String)

  /// `unix:///path`, a bare absolute path, `tcp://host:port` or `http://host:port`; nil for
  /// everything else.
  public init?(_ text: String) {
    if text.hasPrefix("/") {
      self = .unix(text)
    } else if text.hasPrefix("unix:///") {
      self = .unix(String(text.dropFirst("unix://".count)))
    } else if let scheme = ["tcp://", "http://"].first(where: text.hasPrefix) {
      let authority = text.dropFirst(scheme.count).prefix { $0 != "/" }
      guard !authority.isEmpty else { return nil }
      self = .tcp(String(authority))
    } else {
      return nil
    }
  }

  /// Scheme and authority of request URLs. The engine demands a host name and ignores it.
  var origin: String {
    switch self {
    case .unix: "http://localhost"
    case .tcp(let authority): "http://\(authority)"
    }
  }

  var socketPath: String? {
    if case .unix(let path) = self { path } else { nil }
  }
}

nonisolated extension EngineEndpoint: CustomStringConvertible {
  public var description: String {
    switch self {
    case .unix(let path): "unix://\(path)"
    case .tcp(let authority): "tcp://\(authority)"
    }
  }
}
