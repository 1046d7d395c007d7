/// The release that was last applied in full, for each app.
public struct CommitStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  public func commit(ofApp appId: Int) throws(DatabaseError) -> String? {
    try connection.first("SELECT \"commit\" FROM current_commit WHERE app_id = ?", [.integer(appId)]) { row in
      row.text(0)
    } ?? nil
  }

  public func all() throws(DatabaseError) -> [Int: String] {
    let rows = try connection.rows("SELECT app_id, \"commit\" FROM current_commit") { row in
      (row.integer(0) ?? 0, row.text(1) ?? "")
    }
    return Dictionary(rows) { _, last in last }
  }

  public func set(_ commit: String, forApp appId: Int) throws(DatabaseError) {
    try connection.run(
      """
      INSERT INTO current_commit VALUES (?, ?)
      ON CONFLICT (app_id) DO UPDATE SET "commit" = excluded."commit"
      """,
      [.integer(appId), .text(commit)])
  }

  public func remove(app appId: Int) throws(DatabaseError) {
    try connection.run("DELETE FROM current_commit WHERE app_id = ?", [.integer(appId)])
  }
}

/// What the engine held before the device entered local mode: at most one snapshot.
public struct SnapshotStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  /// The snapshot's JSON text and the time it was taken, ISO 8601.
  public func load() throws(DatabaseError) -> (snapshot: String, takenAt: String)? {
    try connection.first("SELECT snapshot, taken_at FROM engine_snapshot") { row in
      (row.text(0) ?? "", row.text(1) ?? "")
    }
  }

  public func save(_ snapshot: String, takenAt: String) throws(DatabaseError) {
    try connection.run(
      "INSERT OR REPLACE INTO engine_snapshot VALUES (1, ?, ?)", [.text(snapshot), .text(takenAt)])
  }

  public func remove() throws(DatabaseError) { try connection.run("DELETE FROM engine_snapshot") }
}
