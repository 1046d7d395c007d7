/// An image that the agent has brought to the device for a service of a release
/// (target-state 2.1, table `image`).
public nonisolated struct StoredImage: Sendable, Hashable {
  /// Identity of the row; nil before it is stored.
  public var id: Int?
  /// Normalised image reference.
  public var name: String
  public var appId: Int?
  public var appUuid: String?
  public var serviceId: Int?
  public var serviceName: String?
  public var imageId: Int?
  public var releaseId: Int?
  public var commit: String?
  /// The engine's id, `sha256:…`; nil in old rows.
  public var engineId: String?

  public init(
    id: Int? = nil, name: String, appId: Int?, appUuid: String?, serviceId: Int?, serviceName: String?,
    imageId: Int?, releaseId: Int?, commit: String?, engineId: String? = nil
  ) {
    self.id = id
    self.name = name
    self.appId = appId
    self.appUuid = appUuid
    self.serviceId = serviceId
    self.serviceName = serviceName
    self.imageId = imageId
    self.releaseId = releaseId
    self.commit = commit
    self.engineId = engineId
  }
}

/// One row for each (image, service, release) that the agent manages.
public struct ImageStore {
  private let connection: Connection

  public init(_ connection: Connection) { self.connection = connection }

  /// All rows, oldest first.
  public func all() throws(DatabaseError) -> [StoredImage] {
    try connection.rows(
      """
      SELECT id, name, app_id, app_uuid, service_id, service_name, image_id, release_id, "commit",
      engine_id FROM managed_image ORDER BY id
      """
    ) { row in
      StoredImage(
        id: row.integer(0), name: row.text(1) ?? "", appId: row.integer(2), appUuid: row.text(3),
        serviceId: row.integer(4), serviceName: row.text(5), imageId: row.integer(6),
        releaseId: row.integer(7), commit: row.text(8), engineId: row.text(9))
    }
  }

  /// Stores an image unless an identical row exists; a row that only lacks the engine's id, or has
  /// another one, receives it.
  ///
  /// - Returns: the row's id.
  @discardableResult
  public func save(_ image: StoredImage) throws(DatabaseError) -> Int {
    try connection.transaction { () throws(DatabaseError) -> Int in
      if let id = try find(image) {
        if let engineId = image.engineId { try setEngineId(engineId, ofRow: id) }
        return id
      }
      try connection.run(
        """
        INSERT INTO managed_image (name, app_id, app_uuid, service_id, service_name, image_id,
        release_id, "commit", engine_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """, Self.metadata(image) + [Value(image.engineId)])
      return connection.lastInsertedRow
    }
  }

  public func setEngineId(_ engineId: String, ofRow id: Int) throws(DatabaseError) {
    try connection.run(
      "UPDATE managed_image SET engine_id = ?1 WHERE id = ?2 AND engine_id IS NOT ?1",
      [.text(engineId), .integer(id)])
  }

  /// Deletes rows by id; unknown ids are ignored.
  public func delete(rows ids: some Sequence<Int>) throws(DatabaseError) {
    try connection.transaction { () throws(DatabaseError) in
      for id in ids { try connection.run("DELETE FROM managed_image WHERE id = ?", [.integer(id)]) }
    }
  }

  private func find(_ image: StoredImage) throws(DatabaseError) -> Int? {
    try connection.first(
      """
      SELECT id FROM managed_image WHERE name = ? AND app_id IS ? AND app_uuid IS ? AND service_id IS ?
      AND service_name IS ? AND image_id IS ? AND release_id IS ? AND "commit" IS ? ORDER BY id
      """, Self.metadata(image)
    ) { row in row.integer(0) } ?? nil
  }

  private static func metadata(_ image: StoredImage) -> [Value] {
    [
      .text(image.name), Value(image.appId), Value(image.appUuid), Value(image.serviceId),
      Value(image.serviceName), Value(image.imageId), Value(image.releaseId), Value(image.commit),
    ]
  }
}
