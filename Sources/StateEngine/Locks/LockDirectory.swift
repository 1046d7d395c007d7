import Glibc

/// The directory of one service in which its update locks lie, kept open.
///
/// A container can write here, so every operation is relative to the descriptor and none
/// follows a symbolic link.
nonisolated struct LockDirectory: ~Copyable {
  /// In the order in which they are taken.
  static let lockNames = ["updates.lock", "resin-updates.lock"]
  /// While a lock is made; one left by a crash is replaced.
  private static let draftName = ".updates.lock.draft"

  private let descriptor: Int32
  let path: String

  /// What stands under a lock's name.
  enum Content: Equatable {
    case nothing
    /// Made by the agent, in this life or an earlier one.
    case ours
    case foreign(LockConflict.Kind, ownerUid: UInt32, since: Timestamp)
  }

  enum Creation: Equatable { case created, exists }

  deinit { close(descriptor) }

  private init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  /// Opens `<base>/<appId>/<service>`.
  ///
  /// - Returns: nil when a part is missing and is not to be made.
  static func open(
    base: String, appId: Int, service: String, create: Bool
  ) throws(UpdateLockError) -> LockDirectory? {
    guard isName(service) else { throw .failure(code: EINVAL, detail: "not a service name: \(service)") }
    if create { try makeBase(base) }
    let root = Glibc.open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard root >= 0 else { return try missing(base, create) }
    defer { close(root) }
    let appPath = "\(base)/\(appId)"
    let app = openChild(root, "\(appId)", create)
    guard app >= 0 else { return try missing(appPath, create) }
    defer { close(app) }
    let path = "\(appPath)/\(service)"
    let descriptor = openChild(app, service, create)
    guard descriptor >= 0 else { return try missing(path, create) }
    return LockDirectory(descriptor: descriptor, path: path)
  }

  /// The service directories of an app: real directories, no links. Empty when there is none.
  static func services(base: String, appId: Int) -> [String] {
    entries(of: "\(base)/\(appId)").filter { $0.isDirectory && isName($0.name) }.map(\.name).sorted()
  }

  /// The apps that have a directory.
  static func apps(base: String) -> [Int] {
    entries(of: base).filter(\.isDirectory).compactMap { Int($0.name) }.sorted()
  }

  private static func isName(_ text: String) -> Bool {
    !text.isEmpty && text != "." && text != ".." && !text.utf8.contains { $0 == 0x2F || $0 == 0 }
  }

  private static func entries(of path: String) -> [(name: String, isDirectory: Bool)] {
    let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return [] }
    guard let directory = fdopendir(descriptor) else {
      close(descriptor)
      return []
    }
    defer { closedir(directory) }
    var found: [(name: String, isDirectory: Bool)] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard name != ".", name != ".." else { continue }
      var status = stat()
      guard fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      found.append((name, status.st_mode & S_IFMT == S_IFDIR))
    }
    return found
  }

  private static func makeBase(_ path: String) throws(UpdateLockError) {
    var end = path.startIndex
    while end != path.endIndex {
      end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
      let prefix = String(path[..<end])
      guard mkdir(prefix, 0o755) != 0, errno != EEXIST else { continue }
      throw failure(errno, prefix)
    }
  }

  private static func openChild(_ parent: Int32, _ name: String, _ create: Bool) -> Int32 {
    if create, mkdirat(parent, name, 0o755) != 0, errno != EEXIST { return -1 }
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
  }

  private static func missing(_ path: String, _ create: Bool) throws(UpdateLockError) -> LockDirectory? {
    let code = errno
    if code == ENOENT, !create { return nil }
    throw failure(code, path)
  }

  // MARK: - Locks

  func content(of name: String, owner: UInt32) -> Content {
    var status = stat()
    guard fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return .nothing }
    let kind: LockConflict.Kind =
      switch status.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .directory
      case S_IFLNK: .symlink
      default: .other
      }
    if kind == .file, status.st_uid == owner { return .ours }
    let since = Timestamp(seconds: Int64(status.st_mtim.tv_sec), nanoseconds: Int32(status.st_mtim.tv_nsec))
    return .foreign(kind, ownerUid: status.st_uid, since: since)
  }

  /// Lets containers make and delete their own locks only.
  func openForAll() throws(UpdateLockError) {
    guard fchmod(descriptor, 0o1777) == 0 else { throw LockDirectory.failure(errno, path) }
  }

  /// Makes a lock of the agent. The file gets its owner under another name and is then linked,
  /// so that nobody sees it with the wrong owner, and an existing name is never replaced.
  func create(_ name: String, owner: UInt32) throws(UpdateLockError) -> Creation {
    let draft = LockDirectory.draftName
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    var file = openat(descriptor, draft, flags, 0o444)
    if file < 0, errno == EEXIST {
      guard unlinkat(descriptor, draft, 0) == 0 || unlinkat(descriptor, draft, AT_REMOVEDIR) == 0 else {
        throw LockDirectory.failure(errno, "\(path)/\(draft)")
      }
      file = openat(descriptor, draft, flags, 0o444)
    }
    guard file >= 0 else { throw LockDirectory.failure(errno, "\(path)/\(draft)") }
    defer {
      close(file)
      unlinkat(descriptor, draft, 0)
    }
    var content = UInt8(ascii: "0")
    guard write(file, &content, 1) == 1, fchmod(file, 0o444) == 0, fchown(file, owner, gid_t.max) == 0 else {
      throw LockDirectory.failure(errno, "\(path)/\(draft)")
    }
    if linkat(descriptor, draft, descriptor, name, 0) == 0 { return .created }
    guard errno == EEXIST else { throw LockDirectory.failure(errno, "\(path)/\(name)") }
    return .exists
  }

  /// Deletes whatever has the name: a file, a link, or a directory if it is empty.
  func delete(_ name: String) {
    if unlinkat(descriptor, name, 0) != 0, errno == EISDIR || errno == EPERM {
      unlinkat(descriptor, name, AT_REMOVEDIR)
    }
  }

  private static func failure(_ code: Int32, _ path: String) -> UpdateLockError {
    .failure(code: code, detail: "\(path): \(String(cString: strerror(code)))")
  }
}
