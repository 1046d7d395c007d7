import Database
import Model

/// Which rows to add, to drop and to repair, and which images to delete (state-engine 6).
public nonisolated enum ImageRules {
  /// The engine id to save under the service's own row: its image is present for another use,
  /// or on the engine without a row (6.7). nil when the row exists or the image is missing.
  public static func saveable(for service: Service, in inventory: ImageInventory) -> String? {
    guard !inventory.hasRow(for: StoredImage(for: service)) else { return nil }
    let key = ImageName.key(service.imageName)
    let other = inventory.availableRows.first {
      ImageName.key($0.name) == key || $0.engineId == service.config.image
    }
    return other.flatMap(inventory.engineId(of:)) ?? inventory.engineId(ofName: service.imageName)
  }

  /// Available rows that no current and no target service uses (6.8), in table order.
  ///
  /// An image that a target service is about to save under its own row is not unused either:
  /// nothing would be left to save.
  ///
  /// - Parameter target: includes services of rejected apps.
  public static func unusedRows(
    in inventory: ImageInventory, current: [Service], target: [Service]
  ) -> [StoredImage] {
    let wanted = Set(target.map { StoredImage(for: $0).use })
    let unsaved = Set(
      target.filter { !inventory.hasRow(for: StoredImage(for: $0)) }.map { ImageName.key($0.imageName) })
    var used: Set<StoredImage> = []
    for service in current {
      let image = service.config.image
      let ofImage = inventory.availableRows.filter {
        $0.engineId == image || inventory.engineId(of: $0) == image || ImageName.isSame($0.name, image)
      }
      let exact = ofImage.filter {
        $0.appId == service.appId && $0.commit == service.commit && $0.serviceName == service.name
      }
      let asWanted = exact.filter { wanted.contains($0.use) }
      used.formUnion(!asWanted.isEmpty ? asWanted : !exact.isEmpty ? exact : ofImage)
    }
    return inventory.availableRows.filter {
      !used.contains($0) && !wanted.contains($0.use) && !unsaved.contains(ImageName.key($0.name))
    }
  }

  /// For each row to drop, whether another row still needs the row's name on the engine: it has
  /// the same name, or stands for the same image and has no name of its own there. Then only
  /// the row goes; of several rows of one name the last takes the image along.
  public static func removals(
    of rows: [StoredImage], in inventory: ImageInventory
  ) -> [(row: StoredImage, isNameShared: Bool)] {
    let dropped = Set(rows)
    var remaining: [String: Int] = [:]
    var borrowers: Set<String> = []
    for row in inventory.rows {
      remaining[row.name, default: 0] += 1
      guard !dropped.contains(row), let id = inventory.engineId(of: row), !inventory.hasName(of: row) else {
        continue
      }
      borrowers.insert(id)
    }
    return rows.map { row in
      remaining[row.name, default: 1] -= 1
      let isBorrowed = inventory.engineId(of: row).map(borrowers.contains) ?? false
      return (row, remaining[row.name, default: 0] > 0 || isBorrowed)
    }
  }

  /// Engine ids to clean up (6.9): without a name and without a row, or of an older agent.
  ///
  /// - Parameter inUse: engine ids that a container uses, even a stopped one.
  public static func cleanable(
    in inventory: ImageInventory, agent: AgentImage?, inUse: Set<String>, ignored: Set<String>
  ) -> [String] {
    let known = Set(inventory.rows.compactMap(\.engineId))
    return inventory.engineImages.filter { image in
      guard !ignored.contains(image.id), !inUse.contains(image.id) else { return false }
      if image.isDangling { return !known.contains(image.id) }
      guard let agent, !image.repoTags.isEmpty else { return false }
      return image.repoTags.allSatisfy { tag in
        let name = ImageName(tag)
        return agent.repositories.contains(String(name.repository))
          && name.tag.map(String.init) != agent.runningTag
      }
    }.map(\.id)
  }

  /// The row of an image to compute a delta from (6.6): the first available one of the same
  /// service. None when the strategy deletes the old image first.
  public static func deltaSource(for service: Service, in inventory: ImageInventory) -> StoredImage? {
    guard service.updateStrategy != .deleteThenDownload else { return nil }
    return inventory.availableRows.first { $0.serviceName == service.name && $0.appId == service.appId }
  }

  /// The same for the row that a download will write. When the strategy deletes the old image
  /// first, its row is gone by now.
  static func deltaSource(for row: StoredImage, in inventory: ImageInventory) -> StoredImage? {
    inventory.availableRows.first {
      $0.serviceName == row.serviceName && $0.appId == row.appId && !ImageName.isSame($0.name, row.name)
    }
  }

  /// What to do to the table and the engine once at start (6.2).
  public static func startupRepair(of inventory: ImageInventory) -> StartupRepair {
    var repair = StartupRepair()
    for row in inventory.rows {
      if AgentApp.includes(appUuid: row.appUuid, service: row.serviceName ?? "") {
        repair.deletions.append(row)
        continue
      }
      guard let id = inventory.engineId(of: row) else {
        repair.deletions.append(row)
        continue
      }
      var repaired = row
      if row.engineId == nil {
        repaired.engineId = id
        repair.updates.append(repaired)
      }
      repair.tags.append(repaired)
    }
    return repair
  }

  public struct StartupRepair: Sendable, Hashable {
    /// Rows that now know their engine id.
    public var updates: [StoredImage] = []
    /// Rows without an image, and of the agent's own services.
    public var deletions: [StoredImage] = []
    /// Available rows; their image gets the row's name as a tag again, errors are ignored.
    public var tags: [StoredImage] = []
  }
}
