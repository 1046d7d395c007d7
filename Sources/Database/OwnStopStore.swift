/// Containers that the agent stops, or has stopped, by a step of its own; nobody else wanted them
/// stopped. Written before the engine is asked, so that a crash in between does not hide it.
public struct OwnStopStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  /// Ids of the containers.
  public func all() throws(DatabaseError) -> Set<String> {
    Set(try connection.rows("SELECT container_id FROM own_stop") { row in row.text(0) ?? "" })
  }

  /// All of them or none; what is known already stays.
  public func insert(_ ids: some Sequence<String>) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      for id in ids { try connection.run("INSERT OR IGNORE INTO own_stop VALUES (?)", [.text(id)]) }
    }
  }

  /// All of them or none; unknown ids are ignored.
  public func remove(_ ids: some Sequence<String>) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      for id in ids { try connection.run("DELETE FROM own_stop WHERE container_id = ?", [.text(id)]) }
    }
  }
}
