public import Database
import Engine
import EventLoop
import Glibc
import JSON
import Logging
import Model

/// Pulls, saves and removes images, and knows what is in flight (state-engine 6).
public final class ImageManager {
  /// An image that is being pulled or deleted.
  public nonisolated struct Activity: Sendable {
    public var row: StoredImage
    public var isDeleting: Bool
    /// Percent; never goes down.
    public var progress: Int
  }

  /// Bytes that must stay free where the engine keeps its images; below it a pull is refused.
  static let freeSpaceReserveBytes: UInt64 = 16 << 20
  /// A dangling image that could not be deleted is left alone for this long.
  private static let cleanUpSilence = Duration.seconds(3600)

  public private(set) var activities: [String: Activity] = [:]
  public private(set) var rows: [StoredImage] = []
  public private(set) var revision: UInt64 = 0
  /// Downloads that succeeded, and that failed, since the start.
  public private(set) var pullCount = 0
  public private(set) var failedPullCount = 0
  var backOff = ImageBackOff()
  private var ignoredCleanUps: [String: MonotonicTime] = [:]

  let engine: EngineClient
  private let current: CurrentState
  private let store: Store
  private let logger: Logger
  private var flavor: VersionInfo.Flavor?
  private var dataRoot: String?
  weak var host: (any StepHost)?
  /// Called when progress or a status changed.
  var onChange: () -> Void = {}

  init(engine: EngineClient, current: CurrentState, store: Store, logger: Logger) {
    self.engine = engine
    self.current = current
    self.store = store
    self.logger = logger
    reloadRows()
  }

  /// The table joined with what the engine has.
  var inventory: ImageInventory { ImageInventory(rows: rows, engineImages: current.engineImages) }

  var downloading: Set<String> { Set(activities.filter { !$0.value.isDeleting }.keys) }

  func ignoredCleanUps(at now: MonotonicTime) -> Set<String> {
    ignoredCleanUps = ignoredCleanUps.filter { $0.value > now }
    return Set(ignoredCleanUps.keys)
  }

  func reloadRows() {
    do throws(DatabaseError) {
      rows = try store.images.all()
    } catch {
      logger.error("Cannot read the image table: \(error)")
    }
    revision += 1
  }

  private func report(_ event: SystemEvent, _ object: String, cause: String? = nil) {
    host?.report(event, text: event.text(object: object, cause: cause), isError: cause != nil)
  }

  // MARK: At start

  /// Fills in ids, drops rows of images that are gone, and tags what is there (6.2). Call it
  /// when the engine has been read.
  func repair() async {
    let repair = ImageRules.startupRepair(of: inventory)
    do throws(DatabaseError) {
      for row in repair.updates {
        if let id = row.id, let engineId = row.engineId {
          try store.images.setEngineId(engineId, ofRow: id)
        }
      }
      if !repair.deletions.isEmpty { try store.images.delete(rows: repair.deletions.compactMap(\.id)) }
    } catch {
      logger.error("Cannot repair the image table: \(error)")
    }
    for row in repair.tags where current.engineImages.contains(where: { $0.id == row.engineId }) {
      guard let id = row.engineId, !isTagged(id, row.name) else { continue }
      try? await tag(id, as: row.name)
    }
    reloadRows()
  }

  private func isTagged(_ id: String, _ name: String) -> Bool {
    current.engineImages.contains { $0.id == id && $0.repoTags.contains(Self.tagName(name)) }
  }

  // MARK: Fetch

  /// Pulls the image unless the engine has it, and stores the row.
  ///
  /// A failure is counted for the image alone; the step itself succeeds, so that the rest of the
  /// app is not held up by more than the missing image.
  func fetch(_ row: StoredImage) async throws(StepError) {
    guard activities[row.name] == nil else { return }
    activities[row.name] = Activity(row: row, isDeleting: false, progress: 0)
    changed()
    defer {
      activities[row.name] = nil
      current.invalidateImages()
      changed()
    }
    do throws(EngineError) {
      if let id = try await find(row.name) {
        try await save(id, row: row)
      } else {
        try await checkFreeSpace()
        report(.downloadImage, row.name)
        try await pull(row.name)
        guard let id = try await find(row.name) else {
          throw EngineError(
            kind: .malformedAnswer, call: "pull", message: "the image is not there after its download")
        }
        try await save(id, row: row)
        pullCount += 1
        report(.imageDownloaded, row.name)
      }
      backOff.succeed(row.name)
    } catch  where error.kind == .cancelled {
      throw .cancelled
    } catch {
      var generator = SystemRandomNumberGenerator()
      backOff.fail(row.name, at: .read(), using: &generator)
      failedPullCount += 1
      report(.imageDownloadError, row.name, cause: error.message)
    }
  }

  private func pull(_ name: String) async throws(EngineError) {
    guard let reference = try? ImageReference(parsing: name) else {
      throw EngineError(kind: .invalidCall, call: "pull", message: "Could not parse the image: \(name)")
    }
    let credentials = reference.registry.flatMap { host?.registryCredentials(registry: $0) }
    var progress = PullProgress(flavor: try await engineFlavor())
    let stream = try await engine.pullImage(PullReference(name), credentials: credentials)
    while let event = try await stream.next() {
      guard progress.consume(event) else { continue }
      activities[name]?.progress = progress.percent
      changed()
    }
  }

  /// Asked once; an engine is not replaced by one of another make while we run.
  private func engineFlavor() async throws(EngineError) -> VersionInfo.Flavor {
    if let flavor { return flavor }
    let found = try await engine.version().flavor
    flavor = found
    return found
  }

  /// The engine's id of an image, by its name, or by a tag of its repository and digest.
  private func find(_ name: String) async throws(EngineError) -> String? {
    do throws(EngineError) {
      return try await engine.inspectImage(name)["Id"]?.stringValue
    } catch  where error.isNotFound {
      return inventory.engineId(ofName: name)
    }
  }

  private func save(_ id: String, row: StoredImage) async throws(EngineError) {
    try await tag(id, as: row.name)
    var row = row
    row.engineId = id
    do throws(DatabaseError) {
      try store.images.save(row)
    } catch {
      throw EngineError(
        kind: .invalidCall, call: "save image",
        message: "the image cannot be noted in the database: \(error.message)")
    }
    reloadRows()
  }

  func tag(_ id: String, as name: String) async throws(EngineError) {
    let parts = Self.tagName(name)
    guard let colon = parts.lastIndex(of: ":") else { return }
    try await engine.tagImage(
      id, repository: String(parts[..<colon]), tag: String(parts[parts.index(after: colon)...]))
  }

  /// `repository:tag`; a name with a digest gets the tag `latest` (target-state 4.1).
  static func tagName(_ name: String) -> String {
    guard let at = name.firstIndex(of: "@") else { return name }
    return "\(name[..<at]):latest"
  }

  func save(_ row: StoredImage, engineId: String) async throws(StepError) {
    do throws(EngineError) { try await save(engineId, row: row) } catch { throw .engine(error) }
    current.invalidateImages()
  }

  private func checkFreeSpace() async throws(EngineError) {
    if dataRoot == nil { dataRoot = try await engine.info()["DockerRootDir"]?.stringValue }
    guard let dataRoot, let path = host?.pathOnHost(dataRoot) else { return }
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return }
    let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
    if free < Self.freeSpaceReserveBytes {
      throw EngineError(
        kind: .invalidCall, call: "pull", message: "only \(free >> 20) MiB are free in \(dataRoot)")
    }
  }

  // MARK: Remove

  func remove(_ row: StoredImage, isNameShared: Bool) async throws(StepError) {
    if isNameShared { return try deleteRow(row) }
    report(.removeImage, row.name)
    activities[row.name] = Activity(row: row, isDeleting: true, progress: 0)
    changed()
    defer {
      activities[row.name] = nil
      current.invalidateImages()
      changed()
    }
    do throws(EngineError) {
      let name = Self.tagName(row.name)
      for image in current.engineImages where image.id == row.engineId {
        for tag in image.repoTags where tag == name { try await removeIfPresent(tag) }
        for digest in image.repoDigests where digest == row.name { try await removeIfPresent(digest) }
      }
    } catch {
      report(.imageRemovalError, row.name, cause: error.message)
      throw .engine(error)
    }
    try deleteRow(row)
    report(.imageRemoved, row.name)
  }

  private func removeIfPresent(_ name: String) async throws(EngineError) {
    do throws(EngineError) { try await engine.removeImage(name, force: false) } catch
      where error.isNotFound
    {}
  }

  private func deleteRow(_ row: StoredImage) throws(StepError) {
    guard let id = row.id else { return }
    do throws(DatabaseError) { try store.images.delete(rows: [id]) } catch { throw .database(error) }
    reloadRows()
  }

  /// Deletes images by id; what cannot be deleted is left alone for an hour.
  func cleanUp(_ ids: [String]) async {
    for id in ids {
      do throws(EngineError) { try await engine.removeImage(id, force: true) } catch {
        guard !error.isNotFound else { continue }
        ignoredCleanUps[id] = .read() + Self.cleanUpSilence
        report(.imageCleanUpError, "\(id), will ignore for 1 hour", cause: error.message)
      }
    }
    current.invalidateImages()
  }

  private func changed() {
    revision += 1
    onChange()
  }
}
