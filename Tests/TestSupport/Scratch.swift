import Glibc
public import Logging

/// Logs nothing.
public let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A directory that is deleted, with everything in it, together with its owner.
public final class Scratch {
  public nonisolated let path: String

  public init() {
    var template = Array("/tmp/supervisor-test-XXXXXX".utf8CString)
    path =
      mkdtemp(&template) == nil
      ? "/tmp" : String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { Self.delete(path) }

  public func file(_ name: String) -> String { "\(path)/\(name)" }

  public var names: [String] { Self.names(in: path) }

  public nonisolated static func names(in directory: String) -> [String] {
    guard let listing = opendir(directory) else { return [] }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  nonisolated private static func delete(_ directory: String) {
    guard directory != "/tmp" else { return }
    for name in names(in: directory) {
      let path = "\(directory)/\(name)"
      if unlink(path) != 0 { delete(path) }
    }
    rmdir(directory)
  }
}

public func contents(of path: String) -> [UInt8] {
  guard let file = fopen(path, "r") else { return [] }
  defer { fclose(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65536)
  while true {
    let count = fread(&buffer, 1, buffer.count, file)
    if count == 0 { return bytes }
    bytes.append(contentsOf: buffer[..<count])
  }
}

public func write(_ bytes: some Sequence<UInt8>, to path: String) {
  guard let file = fopen(path, "w") else { return }
  defer { fclose(file) }
  let bytes = Array(bytes)
  fwrite(bytes, 1, bytes.count, file)
}

public func mode(of path: String) -> mode_t {
  var status = stat()
  return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
}

public func text(of path: String) -> String { String(decoding: contents(of: path), as: UTF8.self) }

public func write(_ text: String, to path: String) { write(text.utf8, to: path) }
/// A small tmpfs under the scratch directory, unmounted with its owner; needs root.
public final class SmallFileSystem {
  public nonisolated let path: String
  public let isMounted: Bool

  public init(in scratch: Scratch, kibibytes: Int) {
    path = scratch.file("tmpfs")
    mkdir(path, 0o700)
    isMounted = mount("tmpfs", path, "tmpfs", 0, "size=\(kibibytes)k") == 0
  }

  public func makeReadOnly() -> Bool {
    mount("tmpfs", path, nil, UInt(MS_REMOUNT | MS_RDONLY), nil) == 0
  }

  /// Writes a file until no byte is left.
  public func fill() {
    let descriptor = open("\(path)/filler", O_WRONLY | O_CREAT, 0o600)
    let zeros = [UInt8](repeating: 0, count: 512)
    while write(descriptor, zeros, zeros.count) > 0 {}
    close(descriptor)
  }

  deinit { umount2(path, Int32(MNT_DETACH)) }
}
