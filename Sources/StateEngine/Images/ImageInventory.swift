import Database
import Model

/// The image table joined with what the engine has: which rows are available, and where an
/// image can be found (state-engine 6.2). Immutable, with indexes, since a plan asks often.
public nonisolated struct ImageInventory: Sendable {
  public let rows: [StoredImage]
  public let engineImages: [EngineImage]
  /// Rows whose image the engine has.
  public let availableRows: [StoredImage]

  private let ids: Set<String>
  private let idsByTag: [String: String]
  private let idsByDigest: [Substring: String]
  private let digestNames: Set<String>
  private let availableKeys: Set<String>
  private let availableIds: Set<String>
  private let uses: Set<StoredImage>

  public init(rows: [StoredImage] = [], engineImages: [EngineImage] = []) {
    self.rows = rows
    self.engineImages = engineImages
    var ids: Set<String> = []
    var tags: [String: String] = [:]
    var digests: [Substring: String] = [:]
    for image in engineImages {
      ids.insert(image.id)
      for tag in image.repoTags { tags[tag] = image.id }
      for name in image.repoDigests {
        if let digest = ImageName(name).digest { digests[digest] = image.id }
      }
    }
    self.ids = ids
    idsByTag = tags
    idsByDigest = digests
    digestNames = Set(engineImages.flatMap(\.repoDigests))

    var available: [StoredImage] = []
    var keys: Set<String> = []
    var availableIds: Set<String> = []
    for row in rows {
      guard let id = ImageInventory.engineId(of: row, ids: ids, tags: tags, digests: digests) else {
        continue
      }
      available.append(row)
      keys.insert(ImageName.key(row.name))
      availableIds.insert(row.engineId ?? id)
    }
    availableRows = available
    availableKeys = keys
    self.availableIds = availableIds
    uses = Set(rows.map(\.use))
  }

  /// The engine's image of a row: by tag, by digest, or by the id that the row knows.
  ///
  /// A row named by digest whose id is known is not matched by its repository's tag, which
  /// may stand for another digest by now.
  public func engineId(of row: StoredImage) -> String? {
    ImageInventory.engineId(of: row, ids: ids, tags: idsByTag, digests: idsByDigest)
  }

  private static func engineId(
    of row: StoredImage, ids: Set<String>, tags: [String: String], digests: [Substring: String]
  ) -> String? {
    let name = ImageName(row.name)
    if let digest = name.digest {
      if let id = digests[digest] { return id }
      if let id = row.engineId { return ids.contains(id) ? id : nil }
      return tags["\(name.repository):latest"]
    }
    if let id = tags["\(name.repository):\(name.tag ?? "latest")"] { return id }
    return row.engineId.flatMap { ids.contains($0) ? $0 : nil }
  }

  /// The engine's image of that name: by tag or digest, else as a row of the same image knows
  /// it (6.3). This is what `config.image` of a target service has to be.
  public func engineId(ofName text: String) -> String? {
    let name = ImageName(text)
    if let digest = name.digest {
      if let id = idsByDigest[digest] { return id }
    } else if let id = idsByTag["\(name.repository):\(name.tag ?? "latest")"] {
      return id
    }
    let key = ImageName.key(text)
    guard availableKeys.contains(key) else { return nil }
    return availableRows.first { ImageName.key($0.name) == key }.flatMap(engineId(of:))
  }

  /// Whether the engine's image has the row's own repository among its tags or digests.
  func hasName(of row: StoredImage) -> Bool {
    let name = ImageName(row.name)
    if let tag = name.tag { return idsByTag["\(name.repository):\(tag)"] != nil }
    return digestNames.contains(row.name) || idsByTag["\(name.repository):latest"] == engineId(of: row)
  }

  /// Whether the target's image is present: an available row has its engine id, its name or
  /// its digest (state-engine 3.5).
  public func isPresent(for service: Service) -> Bool {
    availableKeys.contains(ImageName.key(service.imageName)) || availableIds.contains(service.config.image)
  }

  /// Whether a row stands for exactly this use.
  public func hasRow(for use: StoredImage) -> Bool { uses.contains(use.use) }
}
