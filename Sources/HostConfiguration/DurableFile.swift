import EventLoop
import Glibc

/// A file that could not be read or written, with the reason.
public nonisolated struct FileError: Error, Sendable, Hashable, CustomStringConvertible {
  /// errno(3).
  public let code: Int32
  public let message: String
  public let path: String

  public init(_ code: Int32, _ message: String, path: String) {
    self.code = code
    self.message = message
    self.path = path
  }

  init(_ call: String, _ path: String) {
    let code = errno
    self.init(code, "\(call) \(path): \(String(cString: strerror(code)))", path: path)
  }

  public var description: String { message }
}

/// Reading and durable writing of small files outside of FAT (host 1.7): a reader, and a start after a
/// power cut, sees the old or the new content whole.
public nonisolated enum DurableFile {
  /// The most that is read of one file; none of the files of a device comes near it.
  public static let sizeLimit = 16 << 20

  public static func read(_ path: String) throws(FileError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else { throw FileError("Cannot open", path) }
    defer { close(descriptor) }
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count == 0 { return content }
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError("Cannot read", path)
      }
      content.append(contentsOf: buffer[..<count])
      if content.count > sizeLimit { throw FileError(EFBIG, "File too large: \(path)", path: path) }
    }
  }

  /// Writes `<path>.new`, then renames it over `path`; both steps reach the disk before it returns. A
  /// symbolic link is followed.
  ///
  /// - Parameters:
  ///   - mode: of a file that did not exist.
  ///   - keepsMode: an existing file's mode stays; not for secrets of our own, which another program may have left
  ///     for all to read.
  public static func write(
    _ content: [UInt8], to path: String, mode: mode_t = 0o600, keepsMode: Bool = true
  ) throws(FileError) {
    let target = resolve(path)
    let fresh = target + ".new"
    do throws(FileError) {
      try create(
        fresh, content, mode: keepsMode ? modeOfFile(target) ?? mode : mode, isExclusive: false)
      try synchronize(fresh)
      guard rename(fresh, target) == 0 else { throw FileError("Cannot rename to", target) }
    } catch {
      unlink(fresh)
      throw error
    }
    try synchronize(directory(of: target))
  }

  /// `write`, with the loop going on while the disk is waited for. Writes of the same file come one after the other:
  /// the caller sees to that.
  @MainActor public static func writeInTurns(
    _ content: [UInt8], to path: String, mode: mode_t = 0o600, keepsMode: Bool = true
  ) async throws(FileError) {
    let target = resolve(path)
    let fresh = target + ".new"
    do throws(FileError) {
      try create(
        fresh, content, mode: keepsMode ? modeOfFile(target) ?? mode : mode, isExclusive: false)
      try await flush(fresh)
      guard rename(fresh, target) == 0 else { throw FileError("Cannot rename to", target) }
    } catch {
      unlink(fresh)
      throw error
    }
    try await flush(directory(of: target))
  }

  private static func modeOfFile(_ path: String) -> mode_t? {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
  }

  /// Makes a secret of our own, where it is there, one that nobody else reads, and takes away what a write that was
  /// cut short has left.
  public static func secure(_ path: String) {
    let target = resolve(path)
    unlink(target + ".new")
    chmod(target, 0o600)
  }

  /// Creates the directories above `path` that are missing.
  public static func makeDirectories(for path: String) throws(FileError) {
    var made = path.hasPrefix("/") ? "/" : ""
    for part in directory(of: path).split(separator: "/") {
      made += made.isEmpty || made == "/" ? String(part) : "/\(part)"
      guard mkdir(made, 0o755) == 0 || errno == EEXIST else { throw FileError("Cannot create", made) }
    }
  }

  /// Names of what is in a directory, in no order; none when it cannot be read.
  static func names(in directory: String) -> [String] {
    guard let listing = opendir(directory) else { return [] }
    defer { closedir(listing) }
    var found: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { found.append(name) }
    }
    return found
  }

  /// Creates or replaces a file; it has yet to be brought to the disk.
  static func create(
    _ path: String, _ content: [UInt8], mode: mode_t, isExclusive: Bool
  ) throws(FileError) {
    let flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (isExclusive ? O_EXCL : O_TRUNC)
    let descriptor = open(path, flags, mode)
    guard descriptor >= 0 else { throw FileError("Cannot create", path) }
    defer { close(descriptor) }
    fchmod(descriptor, mode)
    var rest = content[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { bytes in Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError("Cannot write", path)
      }
      rest = rest.dropFirst(count)
    }
  }

  /// Of a file, or of what has changed in a directory; within this turn of the loop.
  static func synchronize(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError("Cannot open", path) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError("Cannot synchronise", path) }
  }

  /// `synchronize`, with the loop going on meanwhile.
  @MainActor static func flush(_ path: String) async throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError("Cannot open", path) }
    defer { close(descriptor) }
    do throws(SystemError) { try await FileFlush.shared.flush(descriptor) } catch {
      throw FileError(error.code, "Cannot synchronise \(path): \(error.reason)", path: path)
    }
  }

  /// The part before the last slash; `.` when there is none.
  public static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func name(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }

  private static func resolve(_ path: String) -> String {
    guard let resolved = realpath(path, nil) else { return path }
    defer { free(resolved) }
    return String(cString: resolved)
  }
}
