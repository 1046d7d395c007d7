import JSON

/// What a key of the HTTP API may touch (http-api 9.1).
public nonisolated enum APIScope: Sendable, Hashable {
  /// Everything.
  case global
  /// One app.
  case app(Int)

  fileprivate init?(_ json: JSON) {
    switch json["type"]?.stringValue {
    case "global": self = .global
    case "app":
      guard let appId = json["appId"]?.intValue else { return nil }
      self = .app(appId)
    default: return nil
    }
  }

  fileprivate var json: JSON {
    switch self {
    case .global: ["type": "global"]
    case .app(let appId): ["type": "app", "appId": .int(appId)]
    }
  }
}

/// A key of the HTTP API and its owner. It has no description on purpose: a key belongs into no log.
public nonisolated struct APIKey: Sendable, Hashable {
  public let key: String
  /// 0 for the global key.
  public let appId: Int
  /// nil for the global key.
  public let serviceName: String?
  public let scopes: Set<APIScope>

  public var isGlobal: Bool { appId == 0 && serviceName == nil }

  /// Whether the key may touch an app.
  public func covers(app: Int) -> Bool { scopes.contains(.global) || scopes.contains(.app(app)) }
}

nonisolated extension APIKey: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "API key of \(serviceName ?? "the device") (app \(appId))" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

/// The keys of the HTTP API (http-api 9).
///
/// All keys are held in memory: a look-up does no I/O, and compares the candidate with every key in
/// full, so that its time says nothing about them. Rows change here alone; the memory follows a
/// change only when the row is written.
public final class APIKeyStore {
  /// Bytes of a generated key (64 hexadecimal characters, the most that the cloud stores).
  public static let keyByteCount = 32

  private let connection: Connection
  private var keys: [Entry]
  /// Goes up with every change of a key.
  public private(set) var revision: UInt64 = 0

  private struct Entry {
    let key: APIKey
    let bytes: [UInt8]

    init(_ key: APIKey) {
      self.key = key
      bytes = Array(key.key.utf8)
    }
  }

  public init(_ connection: Connection) throws(DatabaseError) {
    self.connection = connection
    keys = try connection.rows("SELECT app_id, service_name, key, scopes FROM api_key ORDER BY id") { row in
      Entry(
        APIKey(
          key: row.text(2) ?? "", appId: row.integer(0) ?? 0, serviceName: row.text(1),
          scopes: Self.scopes(row.text(3) ?? "")))
    }
  }

  public var all: [APIKey] { keys.map(\.key) }

  /// The key's owner and scopes; nil for a key that is not (or no longer) valid.
  public func find(_ candidate: String) -> APIKey? { find(Array(candidate.utf8)) }

  public func find(_ candidate: [UInt8]) -> APIKey? {
    var match = -1
    for (position, entry) in keys.enumerated() where RandomKey.matches(candidate, entry.bytes) {
      match = position
    }
    return match >= 0 ? keys[match].key : nil
  }

  /// The key of a service. A key whose scopes are exactly the wanted ones is kept; otherwise a new
  /// one takes its place.
  public func key(
    app appId: Int, service serviceName: String, scopes: Set<APIScope>
  ) throws(DatabaseError) -> String {
    try getOrCreate(appId, serviceName, scopes)
  }

  /// The key of a service with access to its own app.
  public func key(app appId: Int, service serviceName: String) throws(DatabaseError) -> String {
    try key(app: appId, service: serviceName, scopes: [.app(appId)])
  }

  /// The key that may touch everything, known to the cloud as `api_secret`; made at first use.
  public func globalKey() throws(DatabaseError) -> String { try getOrCreate(0, nil, [.global]) }

  /// Replaces a key by a new one of the same owner and scopes; the old one is refused at once.
  ///
  /// - Returns: nil when the key is not valid.
  public func regenerate(_ key: String) throws(DatabaseError) -> APIKey? {
    guard let old = find(key) else { return nil }
    return try replace(old.appId, old.serviceName, scopes: old.isGlobal ? [.global] : old.scopes)
  }

  private func getOrCreate(
    _ appId: Int, _ serviceName: String?, _ scopes: Set<APIScope>
  ) throws(DatabaseError) -> String {
    let kept = keys.first { $0.key.appId == appId && $0.key.serviceName == serviceName }
    if let kept, kept.key.scopes == scopes { return kept.key.key }
    return try replace(appId, serviceName, scopes: scopes).key
  }

  private func replace(
    _ appId: Int, _ serviceName: String?, scopes: Set<APIScope>
  ) throws(DatabaseError) -> APIKey {
    let fresh = APIKey(
      key: RandomKey.hexadecimal(byteCount: Self.keyByteCount), appId: appId, serviceName: serviceName,
      scopes: scopes)
    try connection.transaction { () throws(DatabaseError) in
      try connection.run(
        "DELETE FROM api_key WHERE app_id = ? AND service_name IS ?",
        [.integer(appId), Value(serviceName)])
      try connection.run(
        "INSERT INTO api_key (app_id, service_name, key, scopes) VALUES (?, ?, ?, ?)",
        [.integer(appId), Value(serviceName), .text(fresh.key), .text(Self.text(scopes))])
    }
    keys.removeAll { $0.key.appId == appId && $0.key.serviceName == serviceName }
    keys.append(Entry(fresh))
    revision += 1
    return fresh
  }

  // A scope of an unknown kind grants nothing.
  private static func scopes(_ text: String) -> Set<APIScope> {
    guard let list = (try? JSON(parsing: text))?.arrayValue else { return [] }
    return Set(list.compactMap(APIScope.init))
  }

  private static func text(_ scopes: Set<APIScope>) -> String {
    JSON.array(scopes.map(\.json).sorted { $0.serialized() < $1.serialized() }).serialized()
  }
}
