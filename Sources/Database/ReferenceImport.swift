import JSON
import Logging

/// Takes over what the reference implementation knew (target-state 2.1), so that a device changes
/// agents without a download, a restart of services or a gap offline.
///
/// The reference's tables are only ever read, so it can come back at any time. When it did, its
/// tables have changed: their fingerprint is kept, and another one imports them again, because
/// whoever ran last knows better. A table that is empty there replaces nothing here. `config` is one
/// table for both, thus in no need of import.
struct ReferenceImport {
  let connection: Connection
  let logger: Logger

  private static let tables = [
    "app", "deviceConfig", "image", "apiSecret", "currentCommit", "engineSnapshot",
  ]

  /// - Returns: the names of the imported tables; empty when nothing had to be imported.
  func run() throws(DatabaseError) -> [String] {
    var present: [String] = []
    for table in Self.tables where !(try connection.columns(of: table)).isEmpty { present.append(table) }
    guard !present.isEmpty else { return [] }
    let fingerprint = try fingerprint(of: present)
    let known = try connection.first("SELECT fingerprint FROM reference_import") { row in row.text(0) }
    if known == fingerprint { return [] }
    return try connection.transaction { () throws(DatabaseError) -> [String] in
      var imported: [String] = []
      for table in present where try importTable(table) { imported.append(table) }
      try connection.run(
        "INSERT INTO reference_import VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint",
        [.text(fingerprint)])
      return imported
    }
  }

  private func importTable(_ table: String) throws(DatabaseError) -> Bool {
    switch table {
    case "app": try importApps()
    case "deviceConfig": try importDeviceConfig()
    case "image": try importImages()
    case "apiSecret": try importKeys()
    case "currentCommit": try importCommits()
    default: try importSnapshot()
    }
  }

  /// Rows of a table whose older versions may lack some columns; those read as NULL.
  ///
  /// - Returns: nil when a column without which a row is useless is missing, or when there is no row.
  private func read<Result>(
    _ table: String, required: [String], optional: [String] = [],
    _ read: (borrowing Row) throws(DatabaseError) -> Result
  ) throws(DatabaseError) -> [Result]? {
    let present = try connection.columns(of: table)
    if let missing = required.first(where: { !present.contains($0) }) {
      logger.warning("Table \(table) of the former agent is not imported: it has no column \(missing)")
      return nil
    }
    let columns = required + optional
    let list = columns.map { present.contains($0) ? "\"\($0)\"" : "NULL" }.joined(separator: ", ")
    let found = try connection.rows("SELECT \(list) FROM \"\(table)\" ORDER BY rowid", [], read)
    return found.isEmpty ? nil : found
  }

  private func importApps() throws(DatabaseError) -> Bool {
    let rows = try read(
      "app", required: ["uuid", "appId", "source", "services"],
      optional: [
        "name", "class", "isHost", "rejected", "releaseId", "commit", "networks", "volumes",
      ]
    ) { (row) throws(DatabaseError) -> StoredApp? in
      guard let uuid = row.text(0), let appId = row.integer(1), let source = row.text(2) else { return nil }
      return StoredApp(
        uuid: uuid, source: source, appId: appId, name: row.text(4) ?? "",
        appClass: row.text(5) ?? "fleet", isHost: row.flag(6), isRejected: row.flag(7),
        releaseId: row.integer(8), commit: row.text(9), services: row.text(3) ?? "[]",
        networks: row.text(10) ?? "{}", volumes: row.text(11) ?? "{}")
    }
    let apps = (rows ?? []).compactMap(\.self).filter(hasValidTexts)
    guard !apps.isEmpty else { return false }
    try connection.run("DELETE FROM target_app")
    for app in apps { try TargetStore.insert(app, into: connection) }
    return true
  }

  private func hasValidTexts(_ app: StoredApp) -> Bool {
    let isValid = [app.services, app.networks, app.volumes].allSatisfy { (try? JSON(parsing: $0)) != nil }
    if !isValid {
      logger.warning("App \(app.uuid) of the former agent is not imported: its text is not JSON")
    }
    return isValid
  }

  private func importDeviceConfig() throws(DatabaseError) -> Bool {
    let rows = try read("deviceConfig", required: ["targetValues"]) { row in row.text(0) ?? "" }
    guard let text = rows?.last else { return false }
    guard let values = (try? JSON(parsing: text))?.objectValue else {
      logger.warning("The device configuration of the former agent is not imported: its text is not JSON")
      return false
    }
    guard !values.isEmpty else { return false }
    try connection.run("DELETE FROM device_config_target")
    for (key, value) in values {
      try connection.run(
        "INSERT INTO device_config_target VALUES (?, ?)",
        [.text(key), .text(value.stringValue ?? value.serialized())])
    }
    return true
  }

  private func importImages() throws(DatabaseError) -> Bool {
    let rows = try read(
      "image", required: ["name"],
      optional: [
        "appId", "serviceId", "serviceName", "imageId", "releaseId", "dockerImageId", "appUuid", "commit",
      ]
    ) { row -> StoredImage? in
      guard let name = row.text(0) else { return nil }
      return StoredImage(
        name: name, appId: row.integer(1), appUuid: row.text(7), serviceId: row.integer(2),
        serviceName: row.text(3), imageId: row.integer(4), releaseId: row.integer(5),
        commit: row.text(8), engineId: row.text(6))
    }
    let images = (rows ?? []).compactMap(\.self)
    guard !images.isEmpty else { return false }
    try connection.run("DELETE FROM managed_image")
    let store = ImageStore(connection)
    for image in images { try store.save(image) }
    return true
  }

  private func importKeys() throws(DatabaseError) -> Bool {
    let rows = try read("apiSecret", required: ["appId", "serviceName", "key", "scopes"]) {
      row -> (Int, String?, String, String)? in
      guard let appId = row.integer(0), let key = row.text(2), !key.isEmpty else { return nil }
      return (appId, row.text(1), key, row.text(3) ?? "[]")
    }
    let keys = (rows ?? []).compactMap(\.self)
    for (appId, serviceName, key, scopes) in keys {
      try connection.run(
        "DELETE FROM api_key WHERE key = ? OR (app_id = ? AND service_name IS ?)",
        [.text(key), .integer(appId), Value(serviceName)])
      try connection.run(
        "INSERT INTO api_key (app_id, service_name, key, scopes) VALUES (?, ?, ?, ?)",
        [.integer(appId), Value(serviceName), .text(key), .text(scopes)])
    }
    return !keys.isEmpty
  }

  private func importCommits() throws(DatabaseError) -> Bool {
    let rows = try read("currentCommit", required: ["appId", "commit"]) { row -> (Int, String)? in
      guard let appId = row.integer(0), let commit = row.text(1) else { return nil }
      return (appId, commit)
    }
    let commits = (rows ?? []).compactMap(\.self)
    let store = CommitStore(connection)
    for (appId, commit) in commits { try store.set(commit, forApp: appId) }
    return !commits.isEmpty
  }

  private func importSnapshot() throws(DatabaseError) -> Bool {
    let rows = try read("engineSnapshot", required: ["snapshot", "timestamp"]) { row -> (String, String)? in
      guard let snapshot = row.text(0), let timestamp = row.text(1) else { return nil }
      return (snapshot, timestamp)
    }
    guard let (snapshot, timestamp) = (rows ?? []).compactMap(\.self).last else { return false }
    try SnapshotStore(connection).save(snapshot, takenAt: timestamp)
    return true
  }

  /// FNV-1a over every value of the tables, in order.
  private func fingerprint(of tables: [String]) throws(DatabaseError) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    for table in tables {
      for byte in table.utf8 { mix(byte) }
      _ = try connection.rows("SELECT * FROM \"\(table)\" ORDER BY rowid") { row in
        for column in 0..<row.columnCount {
          if let text = row.text(column) {
            for byte in text.utf8 { mix(byte) }
            mix(0xFF)
          } else {
            mix(0xFE)
          }
        }
        mix(0xFD)
      }
    }
    return String(hash, radix: 16)
  }
}
