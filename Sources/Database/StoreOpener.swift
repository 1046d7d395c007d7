import Glibc
import Logging

/// The steps of opening a store; see `Store`.
struct StoreOpener {
  let path: String
  let logger: Logger

  typealias Opened = (connection: Connection, origin: Store.Origin, imported: [String])

  private static let companions = ["-wal", "-shm", "-journal"]

  var directory: String { Self.directory(of: path) }

  func createDirectory() throws(DatabaseError) {
    var status = stat()
    if stat(directory, &status) == 0 { return }
    var made = directory.hasPrefix("/") ? "/" : ""
    for part in directory.split(separator: "/") {
      made += made.isEmpty || made == "/" ? String(part) : "/" + part
      guard mkdir(made, 0o755) == 0 || errno == EEXIST else {
        // A read-only parent may say so although the directory exists.
        if stat(made, &status) == 0 { continue }
        throw DatabaseError(systemError: errno, call: "cannot create the data directory", path: made)
      }
    }
  }

  func lockIfPossible() throws(DatabaseError) -> DirectoryLock? {
    do {
      return try DirectoryLock(directory)
    } catch  where error.code != .inUse {
      return nil
    }
  }

  func openFile() throws(DatabaseError) -> Opened {
    var status = stat()
    let existed = stat(path, &status) == 0 && status.st_size > 0
    if existed {
      do {
        let (connection, imported) = try openSound(.file(path))
        return (connection, .existing, imported)
      } catch  where isDamage(error) {
        let aside = try moveAside(error)
        let (connection, _) = try openSound(.file(path))
        return (connection, .rebuilt(damagedFile: aside), [])
      }
    }
    let (connection, imported) = try openSound(.file(path))
    return (connection, .created, imported)
  }

  /// Opens, checks, migrates and imports.
  private func openSound(_ location: Connection.Location) throws(DatabaseError) -> (Connection, [String]) {
    let connection = try Connection(location)
    return (connection, try makeReady(connection))
  }

  private func makeReady(_ connection: Connection) throws(DatabaseError) -> [String] {
    if let complaint = try connection.quickCheck() {
      throw DatabaseError(.damaged, complaint, context: path)
    }
    let version = try connection.schemaVersion()
    if version > Migration.latest {
      logger.warning(
        "The database \(path) has schema \(version) of a newer agent; this one knows \(Migration.latest) and uses what it knows"
      )
    }
    try connection.migrate()
    let imported = try ReferenceImport(connection: connection, logger: logger).run()
    if !imported.isEmpty {
      logger.notice("Imported from the former agent: \(imported.joined(separator: ", "))")
    }
    connection.releaseMemory()
    return imported
  }

  /// A companion of the file that is not a file makes SQLite fail to open, and is damage, too.
  private func isDamage(_ error: DatabaseError) -> Bool {
    if error.code == .damaged { return true }
    guard error.code == .cannotOpen || error.code == .other else { return false }
    return Self.companions.contains { suffix in
      var status = stat()
      return stat(path + suffix, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
    }
  }

  // MARK: Damage

  // The database goes first: SQLite discards a journal or WAL without its database, so that a crash
  // between the renames cannot mix an old journal into a new file.
  private func moveAside(_ damage: DatabaseError) throws(DatabaseError) -> String {
    let aside = unusedName()
    guard rename(path, aside) == 0 else {
      throw DatabaseError(systemError: errno, call: "cannot move the damaged database aside", path: path)
    }
    for suffix in Self.companions { rename(path + suffix, aside + suffix) }
    synchronizeDirectory(of: path)
    logger.critical(
      "The database \(path) is damaged (\(damage.message)). It is kept as \(aside); a new one is built from what the engine, config.json and the cloud know."
    )
    deleteOldDamagedFiles()
    return aside
  }

  /// Keeps a file with content that nobody has been able to read.
  func moveUnreadAside() throws(DatabaseError) {
    var status = stat()
    guard stat(path, &status) == 0, status.st_size > 0 else { return }
    _ = try moveAside(DatabaseError(.cannotOpen, "it could not be read at the start", context: path))
  }

  private func unusedName() -> String {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let length = strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &parts)
    let stamp = String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let base = "\(path).damaged-\(stamp)"
    var name = base
    var counter = 2
    while access(name, F_OK) == 0 {
      name = "\(base)-\(counter)"
      counter += 1
    }
    return name
  }

  private func deleteOldDamagedFiles() {
    let prefix = String(path.dropFirst(directory == "/" ? 1 : directory.count + 1)) + ".damaged-"
    guard let listing = opendir(directory) else { return }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      let isCompanion = Self.companions.contains { name.hasSuffix($0) }
      if name.hasPrefix(prefix), !isCompanion { names.append(name) }
    }
    for name in names.sorted().dropLast(Store.keptDamagedFiles) {
      for suffix in [""] + Self.companions { unlink("\(directory)/\(name)\(suffix)") }
    }
  }

  // MARK: Memory

  /// A store in memory with what can be read of the file: through a copy of the file and its WAL in a
  /// directory that can be written, since SQLite replays a WAL only where it may write.
  func openInMemory() throws(DatabaseError) -> Opened {
    do {
      if let copy = try openCopy() { return copy }
    } catch {
      logger.error("The database \(path) cannot be read either: \(error)")
    }
    let connection = try Connection(.memory)
    try connection.migrate()
    return (connection, .created, [])
  }

  private func openCopy() throws(DatabaseError) -> Opened? {
    guard let scratch = try copyToScratch() else { return nil }
    defer { removeScratch(scratch) }
    let source = try Connection(.file("\(scratch)/database"))
    let connection = try Connection(.memory)
    try connection.copyContent(of: source)
    return (connection, .existing, try makeReady(connection))
  }

  /// - Returns: nil when there is no file.
  private func copyToScratch() throws(DatabaseError) -> String? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    for parent in ["/run", "/tmp", "/dev/shm"] {
      var template = Array("\(parent)/balena-supervisor-XXXXXX".utf8CString)
      guard mkdtemp(&template) != nil else { continue }
      let scratch = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
      do {
        try writeSmallFile("\(scratch)/database", try readSmallFile(path))
        for suffix in ["-wal", "-journal"] where access(path + suffix, R_OK) == 0 {
          try writeSmallFile("\(scratch)/database\(suffix)", try readSmallFile(path + suffix))
        }
        return scratch
      } catch {
        removeScratch(scratch)
        if error.context.hasPrefix(path) { throw error }
      }
    }
    throw DatabaseError(.full, "no directory for a copy of the database", context: path)
  }

  private func removeScratch(_ scratch: String) {
    for suffix in [""] + Self.companions { unlink("\(scratch)/database\(suffix)") }
    rmdir(scratch)
  }

  private static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
