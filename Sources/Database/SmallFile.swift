import Glibc

/// The whole content of a file.
nonisolated func readSmallFile(_ path: String) throws(DatabaseError) -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
  guard descriptor >= 0 else { throw DatabaseError(systemError: errno, call: "cannot open", path: path) }
  defer { close(descriptor) }
  var content: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 16384)
  while true {
    let count = read(descriptor, &buffer, buffer.count)
    if count == 0 { return content }
    if count < 0 {
      if errno == EINTR { continue }
      throw DatabaseError(systemError: errno, call: "cannot read", path: path)
    }
    content.append(contentsOf: buffer[..<count])
  }
}

/// Brings the names in a file's directory to the disk; where that is impossible the next write tells.
nonisolated func synchronizeDirectory(of path: String) {
  let directory =
    path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard descriptor >= 0 else { return }
  fsync(descriptor)
  close(descriptor)
}

/// Creates a file for its owner alone.
nonisolated func writeSmallFile(_ path: String, _ content: [UInt8]) throws(DatabaseError) {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw DatabaseError(systemError: errno, call: "cannot create", path: path) }
  defer { close(descriptor) }
  var rest = content[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { bytes in write(descriptor, bytes.baseAddress, bytes.count) }
    if count < 0 {
      if errno == EINTR { continue }
      throw DatabaseError(systemError: errno, call: "cannot write", path: path)
    }
    rest = rest.dropFirst(count)
  }
}
