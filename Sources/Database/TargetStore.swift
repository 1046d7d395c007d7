import JSON

/// An app of the target state as it is stored (target-state 2.1, table `app`).
///
/// `services` is a JSON array whose elements are the services of the v3 document without
/// `id` and `image_id`, and with `appId, appUuid, releaseId, commit, imageId, serviceId,
/// serviceName`; `networks` and `volumes` are the JSON objects of the release. This is the form of the
/// reference, so that its rows are taken over unchanged.
public nonisolated struct StoredApp: Sendable, Hashable {
  public var uuid: String
  /// `local`, or the API endpoint that sent it.
  public var source: String
  public var appId: Int
  public var name: String
  /// `fleet`, `app` or `block`.
  public var appClass: String
  public var isHost: Bool
  public var isRejected: Bool
  public var releaseId: Int?
  public var commit: String?
  public var services: String
  public var networks: String
  public var volumes: String

  public init(
    uuid: String, source: String, appId: Int, name: String, appClass: String = "fleet", isHost: Bool = false,
    isRejected: Bool = false, releaseId: Int? = nil, commit: String? = nil, services: String = "[]",
    networks: String = "{}", volumes: String = "{}"
  ) {
    self.uuid = uuid
    self.source = source
    self.appId = appId
    self.name = name
    self.appClass = appClass
    self.isHost = isHost
    self.isRejected = isRejected
    self.releaseId = releaseId
    self.commit = commit
    self.services = services
    self.networks = networks
    self.volumes = volumes
  }
}

/// The target state: apps, device name and device configuration.
public struct TargetStore {
  private let connection: Connection

  /// Rows of `config` that belong to the target.
  private static let nameKey = "name"
  private static let isSetKey = "targetStateSet"
  /// Row of `config` by which the cloud's target is asked for again; it goes with the target that it belongs to.
  public static let tagKey = "cloudTargetTag"

  public init(_ connection: Connection) { self.connection = connection }

  /// Takes a whole target (target-state 1.6, step 6) in one transaction: device name, device
  /// configuration (bare names), apps by uuid, and the fact that a target was received. Apps of
  /// `source` that are not among `apps` go; apps of other sources stay. The tag of the former target goes, too: a
  /// crash must not leave it beside the new one.
  public func replace(
    _ apps: [StoredApp], source: String, deviceName: String, deviceConfig: [String: String]
  ) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      let settings = SettingStore(connection)
      try settings.set(Self.nameKey, to: deviceName)
      try setDeviceConfig(deviceConfig)
      try connection.run("DELETE FROM target_app WHERE source = ?", [.text(source)])
      for app in apps {
        try connection.run("DELETE FROM target_app WHERE uuid = ?", [.text(app.uuid)])
        try Self.insert(app, into: connection)
      }
      try settings.set(Self.isSetKey, to: "true")
      try settings.remove(Self.tagKey)
    }
  }

  /// Forgets the apps of a source.
  public func removeApps(source: String) throws(DatabaseError) {
    try connection.run("DELETE FROM target_app WHERE source = ?", [.text(source)])
  }

  /// Apps to enforce, oldest row first: those of `source` and those whose class is not `fleet`
  /// (target-state 1.7).
  public func apps(source: String) throws(DatabaseError) -> [StoredApp] {
    try connection.rows(
      """
      SELECT uuid, source, app_id, name, class, is_host, rejected, release_id, "commit", services,
      networks, volumes FROM target_app WHERE source = ? OR class <> 'fleet' ORDER BY id
      """, [.text(source)]
    ) { row in
      StoredApp(
        uuid: row.text(0) ?? "", source: row.text(1) ?? "", appId: row.integer(2) ?? 0,
        name: row.text(3) ?? "", appClass: row.text(4) ?? "fleet", isHost: row.flag(5),
        isRejected: row.flag(6), releaseId: row.integer(7), commit: row.text(8),
        services: row.text(9) ?? "[]", networks: row.text(10) ?? "{}", volumes: row.text(11) ?? "{}")
    }
  }

  /// Names of the volumes of all apps, also of those that are not enforced now, by app id. They hold
  /// data that a change of source must not cost.
  ///
  /// - Parameter source: whose apps are left out.
  public func volumeNames(besides source: String? = nil) throws(DatabaseError) -> [Int: Set<String>] {
    var names: [Int: Set<String>] = [:]
    let rows = try connection.rows(
      "SELECT app_id, volumes FROM target_app WHERE source IS NOT ?", [Value(source)]
    ) { row in
      (row.integer(0) ?? 0, row.text(1) ?? "{}")
    }
    for (appId, volumes) in rows {
      let keys = (try? JSON(parsing: volumes))?.objectValue?.keys ?? []
      names[appId, default: []].formUnion(keys)
    }
    return names
  }

  /// Device name of the target, nil before the first one.
  public func deviceName() throws(DatabaseError) -> String? {
    try SettingStore(connection).text(Self.nameKey)
  }

  /// Whether a target was ever received.
  public func isSet() throws(DatabaseError) -> Bool {
    try SettingStore(connection).text(Self.isSetKey) == "true"
  }

  /// Target device configuration by bare variable name.
  public func deviceConfig() throws(DatabaseError) -> [String: String] {
    let rows = try connection.rows("SELECT key, value FROM device_config_target") { row in
      (row.text(0) ?? "", row.text(1) ?? "")
    }
    return Dictionary(rows) { _, last in last }
  }

  /// Replaces the target device configuration alone (first run, host 3.7).
  public func setDeviceConfig(_ values: [String: String]) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      try connection.run("DELETE FROM device_config_target")
      for (key, value) in values.sorted(by: { $0.key < $1.key }) {
        try connection.run("INSERT INTO device_config_target VALUES (?, ?)", [.text(key), .text(value)])
      }
    }
  }

  static func insert(_ app: StoredApp, into connection: Connection) throws(DatabaseError) {
    try connection.run(
      """
      INSERT OR REPLACE INTO target_app (uuid, source, app_id, name, class, is_host, rejected, release_id,
      "commit", services, networks, volumes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      """,
      [
        .text(app.uuid), .text(app.source), .integer(app.appId), .text(app.name), .text(app.appClass),
        Value(app.isHost), Value(app.isRejected), Value(app.releaseId), Value(app.commit),
        .text(app.services), .text(app.networks), .text(app.volumes),
      ])
  }
}
