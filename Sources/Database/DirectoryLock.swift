import Glibc

/// An advisory lock on a directory, so that two agents never run on one device (host 12.5).
///
/// flock(2) on the directory itself: no file to leave behind, nothing to write on a full or
/// read-only file system, and the kernel releases it when the holder dies.
public nonisolated struct DirectoryLock: ~Copyable {
  private let descriptor: Int32

  /// - Throws: `.inUse` when another process holds the lock, with its process id where visible;
  ///   `.cannotOpen` when the directory cannot be opened.
  public init(_ directory: String) throws(DatabaseError) {
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw DatabaseError(systemError: errno, call: "cannot open the data directory", path: directory)
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let reason = errno
      let holder = Self.holder(of: descriptor)
      close(descriptor)
      guard reason == EWOULDBLOCK else {
        throw DatabaseError(systemError: reason, call: "cannot lock the data directory", path: directory)
      }
      let who = holder.map { " (process \($0))" } ?? ""
      throw DatabaseError(
        .inUse,
        "another agent\(who) uses the data directory \(directory): stop it, or give this one another directory",
        context: directory)
    }
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// The holder's process id as /proc/locks says it (proc(5)); nil when it is in another namespace.
  private static func holder(of descriptor: Int32) -> Int? {
    var status = stat()
    guard fstat(descriptor, &status) == 0, let locks = try? readSmallFile("/proc/locks") else {
      return nil
    }
    for line in String(decoding: locks, as: UTF8.self).split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count >= 6, fields[1] == "FLOCK",
        fields[5].split(separator: ":").last.flatMap({ UInt64($0) }) == UInt64(status.st_ino),
        let process = Int(fields[4]), process > 0
      else { continue }
      return process
    }
    return nil
  }
}
