import Glibc

/// Files of the boot partition, which is FAT: a rename there is not atomic across a power cut.
///
/// The host's own tools use the same protocol (host 1.7), so that either side can finish what the
/// other began. A write first puts the content beside the file under a name that carries its
/// checksum, `.<file>.<random>.<md5>.md5sum`; then copies that to `….tmp`, renames the copy over the
/// file, and only then deletes the checksummed one. While that exists and its content matches its
/// name, it is the truth and the file itself is not trusted; when it does not match, the write never
/// got so far, and the file itself is whole.
public nonisolated enum BootFile {
  /// Reads a file and finishes an interrupted write of it first.
  ///
  /// - Throws: ENOENT `Failed to read file <path>` when the file does not exist.
  public static func read(_ path: String) throws(FileError) -> [UInt8] {
    guard access(path, F_OK) == 0 else { throw FileError(ENOENT, "Failed to read file \(path)", path: path) }
    if let recovered = try recover(path) { return recovered }
    return try DurableFile.read(path)
  }

  /// Writes that have begun and not ended.
  @MainActor public private(set) static var writesUnderWay = 0

  /// Writes, with the loop going on while the disk is waited for.
  ///
  /// A `read` in between finishes the write. Writes of the same file come one after the other: the caller sees to that.
  /// A failure removes what is there of it.
  @MainActor public static func write(_ content: [UInt8], to path: String) async throws(FileError) {
    writesUnderWay += 1
    defer { writesUnderWay -= 1 }
    let pending = Pending(path, content)
    do throws(FileError) {
      try DurableFile.create(pending.checksummed, content, mode: 0o600, isExclusive: true)
      try await DurableFile.flush(pending.checksummed)
      try await DurableFile.flush(DurableFile.directory(of: path))
      if pending.wasFinished(content, path) { return }
      guard try DurableFile.read(pending.checksummed) == content else {
        throw FileError(EIO, "Content read back differs: \(pending.checksummed)", path: path)
      }
      for step in CommitStep.allCases {
        if pending.wasFinished(content, path) { return }
        try await DurableFile.flush(try commit(step, pending, content, over: path))
      }
    } catch {
      unlink(pending.temporary)
      unlink(pending.checksummed)
      throw error
    }
  }

  /// Names of one write that is under way.
  private struct Pending {
    let checksummed: String
    let temporary: String

    init(_ path: String, _ content: [UInt8]) {
      let random = String(UInt32.random(in: 0 ... .max), radix: 16)
      let padded = String(repeating: "0", count: 8 - random.count) + random
      self.init(
        directory: DurableFile.directory(of: path),
        stem: ".\(DurableFile.name(of: path)).\(padded).\(MD5.hexadecimal(content))")
    }

    /// - Parameter stem: the name without its extension.
    init(directory: String, stem: String) {
      checksummed = "\(directory)/\(stem).md5sum"
      temporary = "\(directory)/\(stem).tmp"
    }

    /// Whether a reader has done the rest.
    func wasFinished(_ content: [UInt8], _ path: String) -> Bool {
      access(checksummed, F_OK) != 0 && (try? DurableFile.read(path)) == content
    }
  }

  private enum CommitStep: CaseIterable { case copy, rename, settle, forget }

  /// The name of the copy need not reach the disk by itself: until the last step the checksummed file stands for it.
  /// The renamed file has to: its size and place are in its entry of the directory.
  ///
  /// - Returns: the file or directory that has to reach the disk before the next step.
  private static func commit(
    _ step: CommitStep, _ pending: Pending, _ content: [UInt8], over path: String
  ) throws(FileError) -> String {
    switch step {
    case .copy:
      try DurableFile.create(pending.temporary, content, mode: 0o600, isExclusive: false)
      return pending.temporary
    case .rename:
      guard rename(pending.temporary, path) == 0 else { throw FileError("Cannot rename to", path) }
      return path
    case .settle: return DurableFile.directory(of: path)
    case .forget:
      unlink(pending.checksummed)
      return DurableFile.directory(of: path)
    }
  }

  /// - Returns: the content of an interrupted write that was complete, nil when there was none. It is
  ///   the content even where the partition cannot be written and the rest has to wait.
  private static func recover(_ path: String) throws(FileError) -> [UInt8]? {
    let directory = DurableFile.directory(of: path)
    var recovered: [UInt8]?
    for stem in interruptedWrites(of: DurableFile.name(of: path), in: directory) {
      let pending = Pending(directory: directory, stem: stem)
      let sum = stem.suffix(while: { $0 != "." })
      if recovered == nil, let content = try? DurableFile.read(pending.checksummed),
        MD5.hexadecimal(content) == sum.lowercased()
      {
        recovered = content
        do throws(FileError) {
          for step in CommitStep.allCases {
            try DurableFile.synchronize(try commit(step, pending, content, over: path))
          }
        } catch {
          // The content is known; the next read tries again.
        }
      } else {
        unlink(pending.checksummed)
        unlink(pending.temporary)
      }
    }
    return recovered
  }

  /// Stems of `.<name>.*.*.md5sum`, the latest first.
  private static func interruptedWrites(of name: String, in directory: String) -> [String] {
    guard let listing = opendir(directory) else { return [] }
    defer { closedir(listing) }
    var found: [(stem: String, modified: Int)] = []
    while let entry = readdir(listing) {
      let file = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard file.hasPrefix(".\(name)."), file.hasSuffix(".md5sum") else { continue }
      let stem = String(file.dropLast(".md5sum".count))
      let middle = stem.dropFirst(name.count + 2).split(separator: ".", omittingEmptySubsequences: false)
      guard middle.count >= 2 else { continue }
      var status = stat()
      let isKnown = stat("\(directory)/\(file)", &status) == 0
      found.append((stem, isKnown ? status.st_mtim.tv_sec : 0))
    }
    return found.sorted { ($1.modified, $0.stem) < ($0.modified, $1.stem) }.map(\.stem)
  }
}

nonisolated extension StringProtocol {
  /// The longest suffix all of whose characters match.
  fileprivate func suffix(while matches: (Character) -> Bool) -> SubSequence {
    var start = endIndex
    while start > startIndex, matches(self[index(before: start)]) { start = index(before: start) }
    return self[start...]
  }
}
