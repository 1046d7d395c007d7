/// The agent's settings outside config.json: the table `config`, as texts.
///
/// External programs write rows of it, too, which is why nothing is cached here.
public struct SettingStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  /// nil when there is no such row, or its value is NULL.
  public func text(_ key: String) throws(DatabaseError) -> String? {
    try connection.first("SELECT value FROM config WHERE key = ?", [.text(key)]) { row in row.text(0) } ?? nil
  }

  public func set(_ key: String, to text: String) throws(DatabaseError) {
    try connection.run(
      "INSERT INTO config (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
      [.text(key), .text(text)])
  }

  public func remove(_ key: String) throws(DatabaseError) {
    try connection.run("DELETE FROM config WHERE key = ?", [.text(key)])
  }

  /// Every row with a value.
  public func all() throws(DatabaseError) -> [String: String] {
    let rows = try connection.rows("SELECT key, value FROM config WHERE value IS NOT NULL") { row in
      (row.text(0) ?? "", row.text(1) ?? "")
    }
    return Dictionary(rows) { _, last in last }
  }
}
