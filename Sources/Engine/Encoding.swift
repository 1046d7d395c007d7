import JSON

/// Percent-encoding of what goes into a request's path and query (RFC 3986).
nonisolated enum PercentEncoding {
  /// A name in a path. Slashes stay: the engine's routes take image names with them.
  static func path(_ text: String) -> String { encode(text, keeping: "-._~/:@") }

  static func queryValue(_ text: String) -> String { encode(text, keeping: "-._~") }

  private static func encode(_ text: String, keeping marks: String) -> String {
    var output: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        output.append(byte)
      case _ where marks.utf8.contains(byte): output.append(byte)
      default:
        let digits = Array("0123456789ABCDEF".utf8)
        output += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: output, as: UTF8.self)
  }
}

/// base64 with padding (RFC 4648).
public nonisolated enum Base64 {
  public static func encode(_ bytes: [UInt8]) -> String { encode(bytes, lastTwo: "+/") }

  /// The URL-safe alphabet of section 5, as the engine decodes it.
  static func encodeURLSafe(_ bytes: [UInt8]) -> String { encode(bytes, lastTwo: "-_") }

  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8)

  private static func encode(_ bytes: [UInt8], lastTwo: String) -> String {
    let alphabet = alphabet + Array(lastTwo.utf8)
    var output: [UInt8] = []
    output.reserveCapacity((bytes.count + 2) / 3 * 4)
    for at in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[at..<min(at + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for position in 0..<4 {
        let isPadding = position > group.count
        output.append(isPadding ? UInt8(ascii: "=") : alphabet[Int(bits >> (18 - 6 * UInt32(position)) & 63)])
      }
    }
    return String(decoding: output, as: UTF8.self)
  }
}

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
