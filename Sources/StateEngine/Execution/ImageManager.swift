public import Database
import Engine
import EventLoop
import Glibc
import HTTPClient
import JSON
import Logging
import Model

/// Pulls, saves and removes images, and knows what is in flight (state-engine 6).
///
/// A download never fails its step: what went wrong is kept as the image's fault, with the time
/// of the next try, and everything else of the app goes on. The same holds for a removal.
/// Cancelling the step's task closes the connection to the engine, which gives the pull up.
public final class ImageManager {
  /// An image that is being pulled or deleted.
  public nonisolated struct Activity: Sendable {
    public var row: StoredImage
    public var isDeleting: Bool
    /// Percent; never goes down.
    public var progress: Int
    /// The engine has said nothing about it for some time.
    public var isStalled = false
  }

  /// A dangling image that could not be deleted is left alone for this long.
  private static let cleanUpSilence = Duration.seconds(3600)

  public internal(set) var activities: [String: Activity] = [:]
  public private(set) var rows: [StoredImage] = []
  public private(set) var revision: UInt64 = 0
  /// By image name: why the last try failed. Gone with the next success.
  public internal(set) var faults: [String: ImageFault] = [:]
  public internal(set) var metrics = ImageMetrics()
  /// Downloads that succeeded, and that failed, since the start.
  public var pullCount: Int { metrics.downloadsCompleted }
  public var failedPullCount: Int { metrics.downloadsFailed }
  /// The agent's own image, when it runs in a container.
  private(set) var agentImage: AgentImage?
  var backOff = ImageBackOff()
  private var ignoredCleanUps: [String: MonotonicTime] = [:]

  let engine: EngineClient
  let current: CurrentState
  private let store: Store
  let logger: Logger
  let deltas: DeltaClient
  /// Names that are looked for on the engine before they are pulled.
  var lookups: Set<String> = []
  var flavor: VersionInfo.Flavor?
  /// The engine has pulled a delta without applying it; it is not asked to again.
  var engineKeepsDeltas = false
  var dataRoot: String?
  weak var host: (any StateEngineHost)?
  /// Called when progress or a status changed.
  var onChange: () -> Void = {}

  init(
    engine: EngineClient, current: CurrentState, store: Store, logger: Logger,
    client: HTTPClient = .shared
  ) {
    self.engine = engine
    deltas = DeltaClient(client: client)
    self.current = current
    self.store = store
    self.logger = logger
    reloadRows()
  }

  /// The table joined with what the engine has. An image that is being deleted is gone: nobody is to
  /// rely on it.
  var inventory: ImageInventory {
    let deleting = Set(activities.values.filter(\.isDeleting).map(\.row))
    return ImageInventory(
      rows: deleting.isEmpty ? rows : rows.filter { !deleting.contains($0) },
      engineImages: current.engineImages)
  }

  var downloading: Set<String> { lookups.union(activities.filter { !$0.value.isDeleting }.keys) }

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

  func report(_ event: SystemEvent, _ object: String, cause: String? = nil) {
    host?.report(event, text: event.text(object: object, cause: cause), isError: cause != nil)
  }

  /// Notes a failed try and when the next one may be.
  func fail(_ name: String, _ fault: ImageFault) {
    faults[name] = fault
    backOff.pollInterval = host?.pollInterval ?? backOff.pollInterval
    var generator = SystemRandomNumberGenerator()
    backOff.fail(name, at: .read(), using: &generator)
    changed()
  }

  func succeed(_ name: String) {
    faults[name] = nil
    backOff.succeed(name)
  }

  /// Forgets the faults of images that no one wants any more.
  func retain(_ wanted: Set<String>) {
    let names = wanted.union(rows.map(\.name))
    faults = faults.filter { names.contains($0.key) }
    backOff.retain(names)
  }

  // MARK: At start

  /// Fills in ids, drops rows of images that are gone, and tags what is there (6.2). Call it
  /// when the engine has been read.
  func repair() async {
    await findAgentImage()
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

  /// The container that the agent runs in says which image is its own (6.9, 10).
  private func findAgentImage() async {
    let given = getenv("SUPERVISOR_CONTAINER_ID").map { String(cString: $0) } ?? ""
    for name in (given.isEmpty ? [] : [given]) + AgentImage.containerNames {
      guard let container = try? await engine.inspectContainer(name) else { continue }
      guard container["State"]?["Running"]?.boolValue == true,
        let image = container["Config"]?["Image"]?.stringValue
      else { return }
      agentImage = AgentImage(imageName: image)
      return
    }
  }

  private func isTagged(_ id: String, _ name: String) -> Bool {
    current.engineImages.contains { $0.id == id && $0.repoTags.contains(Self.tagName(name)) }
  }

  // MARK: Save

  func save(_ id: String, row: StoredImage) async throws(EngineError) {
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

  // MARK: Remove

  /// Deletes the row and the row's names from the engine (6.8), unless another row needs them.
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
      try await removeNames(of: row)
    } catch  where error.kind == .cancelled {
      throw .cancelled
    } catch {
      metrics.removalsFailed += 1
      report(.imageRemovalError, row.name, cause: error.message)
      // What someone else uses must not hold up the app; it is tried again later.
      return fail(row.name, ImageFault(.other, message: error.message))
    }
    try deleteRow(row)
    succeed(row.name)
    metrics.removed += 1
    report(.imageRemoved, row.name)
  }

  private func removeNames(of row: StoredImage) async throws(EngineError) {
    let name = Self.tagName(row.name)
    for image in current.engineImages where image.id == row.engineId {
      for tag in image.repoTags where tag == name { try await removeIfPresent(tag) }
      for digest in image.repoDigests where digest == row.name { try await removeIfPresent(digest) }
    }
  }

  func removeIfPresent(_ name: String) async throws(EngineError) {
    do throws(EngineError) { try await engine.removeImage(name, force: false) } catch
      where error.isNotFound
    {}
  }

  private func deleteRow(_ row: StoredImage) throws(StepError) {
    guard let id = row.id else { return }
    do throws(DatabaseError) { try store.images.delete(rows: [id]) } catch { throw .database(error) }
    reloadRows()
  }

  /// Deletes images by id; what cannot be deleted is left alone for an hour (6.9).
  func cleanUp(_ ids: [String]) async {
    for id in ids {
      do throws(EngineError) {
        try await engine.removeImage(id, force: true)
        metrics.cleanedUp += 1
      } catch {
        if error.kind == .cancelled { break }
        guard !error.isNotFound else { continue }
        ignoredCleanUps[id] = .read() + Self.cleanUpSilence
        host?.report(
          .imageCleanUpError, text: "Error cleaning up \(id): \(error.message) - will ignore for 1 hour",
          isError: true)
      }
    }
    current.invalidateImages()
  }

  func changed() {
    revision += 1
    onChange()
  }
}
