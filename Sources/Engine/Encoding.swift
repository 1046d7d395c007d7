import HTTPClient
import JSON

/// The `filters` parameter: a JSON object of lists; nil when there is nothing to filter by.
nonisolated func filterParameter(_ filters: [String: [String]]) -> (String, String)? {
  let used = filters.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }
  guard !used.isEmpty else { return nil }
  return ("filters", JSON.object(JSONObject(used.map { ($0.key, JSON($0.value)) })).serialized())
}

/// Credentials for a registry, as `X-Registry-Auth` carries them (specification, state-engine
/// 6.5 and 6.6).
public nonisolated enum RegistryCredentials: Hashable, Sendable {
  /// The engine exchanges them for a token.
  case password(username: String, password: String, serverAddress: String)
  /// A token that the registry takes as it is.
  case token(String)

  /// Value of the header.
  var header: String {
    let json: JSON =
      switch self {
      case .password(let username, let password, let serverAddress):
        [
          "username": .string(username), "password": .string(password),
          "serveraddress": .string(serverAddress),
        ]
      case .token(let token): ["registrytoken": .string(token)]
      }
    return Base64.encodeURLSafe(json.bytes())
  }
}

/// An image name taken apart the way the engine wants it for a pull.
///
/// It splits; whether the name is valid is `Model`'s and the engine's to say.
public nonisolated struct PullReference: Hashable, Sendable {
  /// With the registry, without tag and digest: `registry:5000/group/name`.
  public let repository: String
  /// A tag, or a digest such as `sha256:…`, which wins over a tag; `latest` when there is neither.
  public let tag: String
  /// `host[:port]` of the registry; nil for names of the default one.
  public let registry: String?

  public init(_ name: String) {
    var rest = name[...]
    var digest: Substring?
    if let at = rest.lastIndex(of: "@") {
      digest = rest[rest.index(after: at)...]
      rest = rest[..<at]
    }
    var tag: Substring = "latest"
    // A colon before the last slash belongs to the registry's port.
    if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
      tag = rest[rest.index(after: colon)...]
      rest = rest[..<colon]
    }
    repository = String(rest)
    self.tag = String(digest ?? tag)
    let first = rest.prefix { $0 != "/" }
    let isRegistry = first == "localhost" || first.contains(".") || first.contains(":")
    registry = isRegistry && first.endIndex != rest.endIndex ? String(first) : nil
  }
}
