import CSystemd
import Glibc

/// Gives memory back that a busy time has needed and a quiet one does not.
enum ResidentMemory {
  /// Returns free heap to the kernel, and unmaps the pages of program text that are in memory.
  ///
  /// Text is clean: a page that is needed again comes back from the page cache by a minor fault.
  /// Only executable mappings are touched, which are never written; relocated data is left alone.
  /// Most of start-up's text, of parsing options and of the libraries' initialisation, is never
  /// needed again.
  static func release() {
    malloc_trim(0)
    for mapping in executableMappings() {
      guard let start = UnsafeMutableRawPointer(bitPattern: mapping.start) else { continue }
      madvise(start, mapping.count, MADV_DONTNEED)
    }
  }

  /// Of proc_pid_maps(5): `start-end r-xp offset device inode path`, those of files.
  private static func executableMappings() -> [(start: UInt, count: Int)] {
    let file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return [] }
    defer { close(file) }
    var text: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = read(file, &piece, piece.count)
      guard count > 0 else { break }
      text += piece.prefix(count)
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ", omittingEmptySubsequences: true)
      guard fields.count >= 6, fields[1] == "r-xp", fields[5].hasPrefix("/") else { return nil }
      let range = fields[0].split(separator: "-")
      guard range.count == 2, let start = UInt(range[0], radix: 16), let end = UInt(range[1], radix: 16),
        end > start
      else { return nil }
      return (start, Int(end - start))
    }
  }
}
