/// An update that was taken back, as it is stored.
public nonisolated struct StoredFailure: Sendable, Hashable {
  public var appId: Int
  /// What failed, in the words of whoever stored it.
  public var target: String
  public var reason: String
  public var tries: Int
  /// Seconds since 1970 by the clock of the time when it failed.
  public var retryAt: Int

  public init(appId: Int, target: String, reason: String, tries: Int, retryAt: Int) {
    self.appId = appId
    self.target = target
    self.reason = reason
    self.tries = tries
    self.retryAt = retryAt
  }
}

/// Updates that were taken back and are not to be tried again soon.
public struct FailedUpdateStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  /// By app.
  public func all() throws(DatabaseError) -> [StoredFailure] {
    try connection.rows("SELECT app_id, target, reason, tries, retry_at FROM failed_update ORDER BY app_id") {
      row in
      StoredFailure(
        appId: row.integer(0) ?? 0, target: row.text(1) ?? "", reason: row.text(2) ?? "",
        tries: row.integer(3) ?? 0, retryAt: row.integer(4) ?? 0)
    }
  }

  /// These and no others.
  public func replace(with failures: [StoredFailure]) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      try connection.run("DELETE FROM failed_update")
      for failure in failures {
        try connection.run(
          "INSERT INTO failed_update (app_id, target, reason, tries, retry_at) VALUES (?, ?, ?, ?, ?)",
          [
            .integer(failure.appId), .text(failure.target), .text(failure.reason), .integer(failure.tries),
            .integer(failure.retryAt),
          ])
      }
    }
  }
}
