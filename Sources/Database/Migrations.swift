/// The numbered steps of the schema. Each runs in a transaction of its own together with the
/// new number in `PRAGMA user_version`, so that a step has happened whole or not at all.
///
/// Two rules keep devices that go back and forth alive:
/// - No table of the reference is dropped, altered or reused, save `config`, whose shape is a
///   contract with external programs (host 2.3). Ours have other names (target-state 2.2; `managed_image`
///   because the reference has an `image`).
/// - A step only adds. An older agent can therefore open the file of a newer one.
nonisolated struct Migration: Sendable {
  let number: Int
  let script: String

  static let all = [
    Migration(number: 1, script: firstSchema), Migration(number: 2, script: ownStops),
    Migration(number: 3, script: failedUpdates),
  ]

  static let latest = all.last?.number ?? 0

  private static let firstSchema = """
    CREATE TABLE IF NOT EXISTS config (key TEXT PRIMARY KEY, value TEXT);
    CREATE TABLE device_config_target (
      key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE target_app (
      id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, source TEXT NOT NULL, app_id INTEGER NOT NULL,
      name TEXT NOT NULL, class TEXT NOT NULL, is_host INTEGER NOT NULL, rejected INTEGER NOT NULL,
      release_id INTEGER, "commit" TEXT, services TEXT NOT NULL, networks TEXT NOT NULL,
      volumes TEXT NOT NULL);
    CREATE TABLE managed_image (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL, engine_id TEXT, app_id INTEGER, app_uuid TEXT,
      service_id INTEGER, service_name TEXT, image_id INTEGER, release_id INTEGER, "commit" TEXT);
    CREATE TABLE api_key (
      id INTEGER PRIMARY KEY, app_id INTEGER NOT NULL, service_name TEXT, key TEXT NOT NULL UNIQUE,
      scopes TEXT NOT NULL);
    CREATE UNIQUE INDEX api_key_owner ON api_key (app_id, ifnull(service_name, ''));
    CREATE TABLE current_commit (app_id INTEGER PRIMARY KEY, "commit" TEXT NOT NULL);
    CREATE TABLE engine_snapshot (
      id INTEGER PRIMARY KEY CHECK (id = 1), snapshot TEXT NOT NULL, taken_at TEXT NOT NULL);
    CREATE TABLE reference_import (
      id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL);
    """

  private static let ownStops = """
    CREATE TABLE own_stop (container_id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
    """

  private static let failedUpdates = """
    CREATE TABLE failed_update (
      app_id INTEGER PRIMARY KEY, target TEXT NOT NULL, reason TEXT NOT NULL, tries INTEGER NOT NULL,
      retry_at INTEGER NOT NULL);
    """

  /// Tables and columns that the code reads; a sound file without them is damaged all the same.
  static let expectedColumns: [(table: String, columns: [String])] = [
    ("config", ["key", "value"]),
    ("device_config_target", ["key", "value"]),
    (
      "target_app",
      [
        "id", "uuid", "source", "app_id", "name", "class", "is_host", "rejected", "release_id",
        "commit", "services", "networks", "volumes",
      ]
    ),
    (
      "managed_image",
      [
        "id", "name", "engine_id", "app_id", "app_uuid", "service_id", "service_name", "image_id",
        "release_id", "commit",
      ]
    ),
    ("api_key", ["id", "app_id", "service_name", "key", "scopes"]),
    ("current_commit", ["app_id", "commit"]),
    ("engine_snapshot", ["id", "snapshot", "taken_at"]),
    ("reference_import", ["id", "fingerprint"]),
    ("own_stop", ["container_id"]),
    ("failed_update", ["app_id", "target", "reason", "tries", "retry_at"]),
  ]
}

extension Connection {
  func schemaVersion() throws(DatabaseError) -> Int {
    try first("PRAGMA user_version") { row in row.integer(0) ?? 0 } ?? 0
  }

  /// Brings the schema to the latest number and compares it with what the code expects.
  ///
  /// - Throws: `.damaged` when a table or column is missing although the number says otherwise.
  func migrate() throws(DatabaseError) {
    let version = try schemaVersion()
    for migration in Migration.all where migration.number > version {
      try transaction { () throws(DatabaseError) in
        try execute(migration.script)
        try execute("PRAGMA user_version = \(migration.number)")
      }
    }
    for (table, columns) in Migration.expectedColumns {
      let present = try self.columns(of: table)
      if let missing = columns.first(where: { !present.contains($0) }) {
        throw DatabaseError(
          .damaged, "table \(table) has no column \(missing)", context: location.description)
      }
    }
  }

  /// Names of a table's columns; empty when there is no such table.
  func columns(of table: String) throws(DatabaseError) -> Set<String> {
    Set(try rows("SELECT name FROM pragma_table_info(?)", [.text(table)]) { row in row.text(0) ?? "" })
  }
}

nonisolated extension Connection.Location: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let path): path
    case .memory: "memory"
    }
  }
}
