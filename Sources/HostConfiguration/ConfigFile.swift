import EventLoop
import Glibc
import JSON
import Logging

/// config.json cannot be used; the message names the file and what to do.
public nonisolated struct ConfigFileError: Error, Sendable, Hashable, CustomStringConvertible {
  public let path: String
  public let message: String

  public init(_ message: String, path: String) {
    self.path = path
    self.message = message
  }

  public var description: String { message }
}

/// The host's config.json (host 2.3).
///
/// The file belongs to the host: its tools edit it at any time, and every member that is not ours has to
/// stay as it is. So the copy in memory is only for reading; a change reads the file again, sets the
/// changed members in it, and writes it durably. Order of members and spelling of numbers are
/// kept, new members go to the end.
///
/// Each content that could be parsed is kept as the last good copy in the data directory, so that a torn write by
/// anyone does not end in a crash loop. When the file cannot be parsed, the copy is used, and takes the file's
/// place once the broken text is kept beside the copy; where that fails, the file is not touched. A file that is
/// not there is written again unless its directory looks like a partition that is not mounted. While the
/// file may not be written, changes are made to the copy, and to the file as soon as it can be read again.
///
/// Changes and readings are made one after the other, in the order in which they were asked for, and the loop goes on
/// while they wait for the disk. Memory has a change when the disk has it.
public final class ConfigFile {
  /// Where the content came from at start.
  public nonisolated enum Origin: Sendable, Hashable {
    case file
    /// The file was unusable for the reason given, the last good copy was usable.
    case lastGoodCopy(reason: String)
    /// There is neither file nor copy: an unmanaged device without settings.
    case missing
  }

  public let path: String
  public let origin: Origin
  /// The members, as last read or written.
  public private(set) var members: JSONObject

  private let copyPath: String
  private var damagedPath: String { copyPath + ".damaged" }
  /// Changes that the file does not have, since it may not be written.
  private var unwritten: [String: Edit] = [:]
  /// There was a file, or a copy of one.
  private var isKnown = false
  private let isOnBootPartition: Bool
  private let logger: Logger
  private let turns = TurnQueue()

  /// - Parameters:
  ///   - bootDirectory: a file below it is read and written by the protocol of `BootFile`.
  ///   - copyPath: where the last good copy is kept.
  /// - Throws: when the file is unusable and there is no copy.
  public init(
    path: String, bootDirectory: String, copyPath: String, logger: Logger
  ) async throws(ConfigFileError) {
    self.path = path
    self.copyPath = copyPath
    self.logger = logger
    isOnBootPartition = path.hasPrefix(bootDirectory == "/" ? "/" : bootDirectory + "/")
    let content = Self.load(path, isOnBootPartition)
    if case .success(let members) = content {
      self.members = members
      origin = .file
      isKnown = true
      await keepCopy()
      return
    }
    let reason = content.reason
    switch (Self.load(copyPath, false), content) {
    case (.success(let members), _):
      self.members = members
      origin = .lastGoodCopy(reason: reason)
      isKnown = true
      logger.critical("\(path) is unusable (\(reason)): using the last good copy \(copyPath)")
      guard await mayReplace(content) else { return }
      do throws(ConfigFileError) { try await write(members) } catch { logger.error("\(error)") }
    case (_, .missing):
      members = [:]
      origin = .missing
      logger.warning(
        "\(path) does not exist: running unmanaged with defaults. Give the file with --config, or mount the boot partition."
      )
    default:
      throw ConfigFileError(
        "\(path) is unusable (\(reason)) and there is no earlier copy of it: correct the file, then restart",
        path: path)
    }
  }

  public convenience init(paths: HostPaths, logger: Logger) async throws(ConfigFileError) {
    try await self.init(
      path: paths.config, bootDirectory: paths.boot, copyPath: paths.configCopy, logger: logger)
  }

  /// A change is being made, or waits for its turn.
  public var isWriting: Bool { !turns.isIdle }

  /// What to do with one member. (Not an optional: `nil` is a literal of `JSON`, too.)
  public nonisolated enum Edit: Sendable, Hashable {
    case set(JSON)
    case remove

    fileprivate var value: JSON? { if case .set(let value) = self { value } else { Optional.none } }
  }

  /// Edits members of the file. Nothing is written when nothing differs.
  ///
  /// - Returns: all members whose value in memory has changed, those that others have edited included.
  /// - Throws: when neither the file nor, where that may not be touched, the copy can be written; memory and
  ///   file are then as before.
  @discardableResult
  public func update(_ edits: [String: Edit]) async throws(ConfigFileError) -> Set<String> {
    await turns.enter()
    defer { turns.leave() }
    let before = members
    let current = Self.load(path, isOnBootPartition)
    var next = before
    var pending = edits
    switch current {
    case .success(let members):
      next = members
      pending = unwritten.merging(edits) { _, new in new }
    case .missing: if isKnown { logger.error("\(path) has vanished: using what was read before") }
    case .unusable(let reason, _):
      logger.critical("\(path) is unusable (\(reason)): using what was read before")
    }
    let differs = Self.apply(pending, to: &next)
    if differs || current.isUnusable {
      if await mayReplace(current) {
        try await write(next)
        unwritten = [:]
      } else {
        do throws(FileError) { try await writeCopy(next) } catch {
          throw ConfigFileError("\(path) is unusable, and its copy cannot be written: \(error)", path: path)
        }
        unwritten.merge(edits) { _, new in new }
      }
    }
    members = next
    if before != next || differs { await keepCopy() }
    return Self.difference(before, next)
  }

  /// Reads the file again, after others may have edited it. An unusable file is reported and changes nothing.
  ///
  /// - Returns: members whose value has changed.
  public func reload() async -> Set<String> {
    await turns.enter()
    defer { turns.leave() }
    switch Self.load(path, isOnBootPartition) {
    case .success(var fresh):
      isKnown = true
      if Self.apply(unwritten, to: &fresh) {
        do throws(ConfigFileError) {
          try await write(fresh)
          unwritten = [:]
        } catch {
          logger.error("\(error)")
        }
      }
      let changed = Self.difference(members, fresh)
      members = fresh
      if !changed.isEmpty { await keepCopy() }
      return changed
    case .missing: logger.error("\(path) has vanished: using what was read before")
    case .unusable(let reason, _): logger.error("\(path) is unusable (\(reason)): using what was read before")
    }
    return []
  }

  /// - Returns: whether anything differs.
  private static func apply(_ edits: [String: Edit], to members: inout JSONObject) -> Bool {
    var differs = false
    for (name, edit) in edits.sorted(by: { $0.key < $1.key }) where members[name] != edit.value {
      members[name] = edit.value
      differs = true
    }
    return differs
  }

  private static func difference(_ a: JSONObject, _ b: JSONObject) -> Set<String> {
    Set((a.keys + b.keys).filter { a[$0] != b[$0] })
  }

  // MARK: Disk

  private enum Content {
    case success(JSONObject)
    case missing
    /// With what is in it, where that could be read.
    case unusable(reason: String, content: [UInt8]?)

    var reason: String {
      switch self {
      case .success: ""
      case .missing: "it does not exist"
      case .unusable(let reason, _): reason
      }
    }

    var isUnusable: Bool { if case .unusable = self { true } else { false } }
  }

  private static func load(_ path: String, _ isOnBootPartition: Bool) -> Content {
    do {
      let bytes = try isOnBootPartition ? BootFile.read(path) : DurableFile.read(path)
      do {
        guard case .object(let members) = try JSON(parsing: bytes) else {
          return .unusable(reason: "not a JSON object", content: bytes)
        }
        return .success(members)
      } catch {
        return .unusable(reason: "\(error)", content: bytes)
      }
    } catch {
      return error.code == ENOENT ? .missing : .unusable(reason: error.message, content: nil)
    }
  }

  private func write(_ members: JSONObject) async throws(ConfigFileError) {
    let bytes = JSON.object(members).bytes()
    do {
      if isOnBootPartition {
        try await BootFile.write(bytes, to: path)
      } else {
        try await DurableFile.writeInTurns(bytes, to: path)
      }
      isKnown = true
    } catch {
      throw ConfigFileError("\(path) cannot be written: \(error.message)", path: path)
    }
  }

  /// Whether a file that was found like this may be written over.
  private func mayReplace(_ content: Content) async -> Bool {
    switch content {
    case .success: return true
    case .missing:
      // A first change creates the file wherever it is to be.
      guard isKnown, !Self.isPlace(DurableFile.directory(of: path)) else { return true }
      logger.error("\(path) is not written: its directory is empty. Is the boot partition mounted?")
      return false
    case .unusable(_, let bytes):
      guard let bytes else {
        logger.critical("\(path) stays as it is: it cannot be read")
        return false
      }
      do throws(FileError) {
        if (try? DurableFile.read(damagedPath)) != bytes {
          try await DurableFile.writeInTurns(bytes, to: damagedPath, keepsMode: false)
        }
        logger.critical("What was in \(path) is kept in \(damagedPath)")
        return true
      } catch {
        logger.critical("\(path) stays as it is, since what is in it cannot be kept: \(error.message)")
        return false
      }
    }
  }

  /// Whether a directory is more than the empty one that a partition would be mounted on.
  private static func isPlace(_ directory: String) -> Bool {
    guard let listing = opendir(directory) else { return false }
    defer { closedir(listing) }
    var count = 0
    // Every directory has `.` and `..`.
    while count <= 2, readdir(listing) != nil { count += 1 }
    if count > 2 { return true }
    var own = stat()
    var above = stat()
    return stat(directory, &own) == 0 && stat("\(directory)/..", &above) == 0 && own.st_dev != above.st_dev
  }

  private func keepCopy() async {
    do throws(FileError) { try await writeCopy(members) } catch {
      logger.warning("No copy of \(path) is kept: \(error.message)")
    }
  }

  private func writeCopy(_ members: JSONObject) async throws(FileError) {
    let bytes = JSON.object(members).bytes()
    if let kept = try? DurableFile.read(copyPath), kept == bytes { return }
    try await DurableFile.writeInTurns(bytes, to: copyPath, keepsMode: false)
  }
}
