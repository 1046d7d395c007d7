import Logging

/// Everything that has to survive a restart (target-state 2.3), over one SQLite file.
///
/// Opening never trusts the file. In this order: the directory is created and locked; the file
/// is opened, checked page by page and brought to the latest schema; what a former agent left is
/// imported. A file that is not sound is moved aside, with a loud line, and a fresh one takes its
/// place, because everything in it can be learnt again from the engine, config.json and the cloud.
/// A file that cannot be written is an error, or, where the caller wants to run on, is copied
/// into memory: the device then keeps its target, images and keys until the agent's next start.
public final class Store {
  /// What to do when the file cannot be written.
  public nonisolated enum UnwritablePolicy: Sendable {
    case fail
    /// Work on a copy in memory, and say so.
    case runFromMemory
  }

  /// What opening found.
  public nonisolated enum Origin: Sendable, Hashable {
    case existing
    case created
    /// The former file was damaged; it is kept at the path.
    case rebuilt(damagedFile: String)
  }

  public let connection: Connection
  public let origin: Origin
  /// Tables of the reference implementation that this start imported.
  public let importedTables: [String]
  /// Why nothing will survive a restart; nil when it will.
  public private(set) var volatileReason: DatabaseError?

  public let settings: SettingStore
  public let targets: TargetStore
  public let images: ImageStore
  public let keys: APIKeyStore
  public let commits: CommitStore
  public let snapshots: SnapshotStore
  public let ownStops: OwnStopStore
  public let failedUpdates: FailedUpdateStore

  private var lock: DirectoryLock?
  private let opener: StoreOpener?

  /// Damaged files that are kept; older ones are deleted.
  public static let keptDamagedFiles = 3

  /// Opens the store at `path`.
  ///
  /// - Throws: `.inUse` when another agent has the directory; the reason when the directory or the file
  ///   cannot be opened, or cannot be written and `policy` is `.fail`.
  public static func open(
    at path: String, whenUnwritable policy: UnwritablePolicy = .fail, logger: Logger
  ) throws(DatabaseError) -> Store {
    let opener = StoreOpener(path: path, logger: logger)
    do {
      try opener.createDirectory()
      let lock = try DirectoryLock(opener.directory)
      let (connection, origin, imported) = try opener.openFile()
      return try Store(connection, origin, imported, lock: lock, volatileReason: nil, opener: opener)
    } catch  where error.isUnwritable && policy == .runFromMemory {
      logger.critical(
        "The database \(path) cannot be written (\(error.message)): running from memory, and nothing survives a restart until \(opener.directory) has space and can be written."
      )
      let lock = try opener.lockIfPossible()
      let (connection, origin, imported) = try opener.openInMemory()
      return try Store(connection, origin, imported, lock: lock, volatileReason: error, opener: opener)
    }
  }

  /// An empty store in memory, for tests and trials.
  public static func inMemory() throws(DatabaseError) -> Store {
    let connection = try Connection(.memory)
    try connection.migrate()
    return try Store(connection, .created, [], lock: nil, volatileReason: nil, opener: nil)
  }

  private init(
    _ connection: Connection, _ origin: Origin, _ imported: [String], lock: consuming DirectoryLock?,
    volatileReason: DatabaseError?, opener: StoreOpener?
  ) throws(DatabaseError) {
    self.connection = connection
    self.origin = origin
    importedTables = imported
    self.volatileReason = volatileReason
    settings = SettingStore(connection)
    targets = TargetStore(connection)
    images = ImageStore(connection)
    keys = try APIKeyStore(connection)
    commits = CommitStore(connection)
    snapshots = SnapshotStore(connection)
    ownStops = OwnStopStore(connection)
    failedUpdates = FailedUpdateStore(connection)
    self.lock = consume lock
    self.opener = opener
  }

  /// How long after a failed try `becomeDurable` is worth the next.
  public static let durabilityInterval = Duration.seconds(30)

  /// Brings a store that runs from memory to its file, once that can be written, and goes on there. A file
  /// that could not be read before, and so is not part of what is in memory, is kept under another name.
  ///
  /// - Throws: the reason why it still cannot; nothing has changed then.
  public func becomeDurable() throws(DatabaseError) {
    guard volatileReason != nil, let opener else { return }
    try opener.createDirectory()
    if lock == nil { lock = try DirectoryLock(opener.directory) }
    if origin == .created { try opener.moveUnreadAside() }
    let file = try Connection(.file(opener.path))
    try file.copyContent(of: connection)
    connection.exchange(with: file)
    volatileReason = nil
    opener.logger.notice("The database \(opener.path) is written to again")
  }
}
