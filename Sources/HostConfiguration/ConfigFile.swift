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
/// Each content that could be parsed is kept as the last good copy in the data directory. When the file
/// cannot be parsed, the copy takes its place (and the broken text is kept beside the copy), so that
/// a torn write by anyone does not end in a crash loop.
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
  private let isOnBootPartition: Bool
  private let logger: Logger

  /// - Parameters:
  ///   - bootDirectory: a file below it is read and written by the protocol of `BootFile`.
  ///   - copyPath: where the last good copy is kept.
  /// - Throws: when the file is unusable and there is no copy.
  public init(
    path: String, bootDirectory: String, copyPath: String, logger: Logger
  ) throws(ConfigFileError) {
    self.path = path
    self.copyPath = copyPath
    self.logger = logger
    isOnBootPartition = path.hasPrefix(bootDirectory == "/" ? "/" : bootDirectory + "/")
    let content = Self.load(path, isOnBootPartition)
    if case .success(let members) = content {
      self.members = members
      origin = .file
      keepCopy()
      return
    }
    let reason = content.reason
    let copy = Self.load(copyPath, false)
    switch (copy, content) {
    case (.success(let members), _):
      self.members = members
      origin = .lastGoodCopy(reason: reason)
      logger.critical("\(path) is unusable (\(reason)): restoring the last good copy \(copyPath)")
      restore()
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

  public convenience init(paths: HostPaths, logger: Logger) throws(ConfigFileError) {
    try self.init(
      path: paths.config, bootDirectory: paths.boot, copyPath: paths.configCopy, logger: logger)
  }

  /// What to do with one member. (Not an optional: `nil` is a literal of `JSON`, too.)
  public nonisolated enum Edit: Sendable, Hashable {
    case set(JSON)
    case remove

    fileprivate var value: JSON? { if case .set(let value) = self { value } else { Optional.none } }
  }

  /// Edits members of the file. Nothing is written when nothing differs.
  ///
  /// - Returns: all members whose value in memory has changed, those that others have edited included.
  /// - Throws: when the file cannot be written; memory and file are then as before.
  @discardableResult
  public func update(_ edits: [String: Edit]) throws(ConfigFileError) -> Set<String> {
    let before = members
    let current = Self.load(path, isOnBootPartition)
    var next = before
    switch current {
    case .success(let members): next = members
    case .missing: if origin != .missing { logger.error("\(path) has vanished: writing it again") }
    case .unusable(let reason):
      logger.critical("\(path) is unusable (\(reason)): writing the last good content")
    }
    var differs = false
    for (name, edit) in edits.sorted(by: { $0.key < $1.key }) where next[name] != edit.value {
      next[name] = edit.value
      differs = true
    }
    if differs || current.isUnusable { try write(next) }
    members = next
    if before != next || differs { keepCopy() }
    return Self.difference(before, next)
  }

  /// Reads the file again, after others may have edited it. An unusable file is reported and changes nothing.
  ///
  /// - Returns: members whose value has changed.
  public func reload() -> Set<String> {
    switch Self.load(path, isOnBootPartition) {
    case .success(let fresh):
      let changed = Self.difference(members, fresh)
      members = fresh
      if !changed.isEmpty { keepCopy() }
      return changed
    case .missing: logger.error("\(path) has vanished: using what was read before")
    case .unusable(let reason): logger.error("\(path) is unusable (\(reason)): using what was read before")
    }
    return []
  }

  private static func difference(_ a: JSONObject, _ b: JSONObject) -> Set<String> {
    Set((a.keys + b.keys).filter { a[$0] != b[$0] })
  }

  // MARK: Disk

  private enum Content {
    case success(JSONObject)
    case missing
    case unusable(String)

    var reason: String {
      switch self {
      case .success: ""
      case .missing: "it does not exist"
      case .unusable(let reason): reason
      }
    }

    var isUnusable: Bool { if case .unusable = self { true } else { false } }
  }

  private static func load(_ path: String, _ isOnBootPartition: Bool) -> Content {
    do {
      let bytes = try isOnBootPartition ? BootFile.read(path) : DurableFile.read(path)
      do {
        guard case .object(let members) = try JSON(parsing: bytes) else {
          return .unusable("not a JSON object")
        }
        return .success(members)
      } catch {
        return .unusable("\(error)")
      }
    } catch {
      return error.code == ENOENT ? .missing : .unusable(error.message)
    }
  }

  private func write(_ members: JSONObject) throws(ConfigFileError) {
    let bytes = JSON.object(members).bytes()
    do {
      if isOnBootPartition {
        try BootFile.write(bytes, to: path)
      } else {
        try DurableFile.write(bytes, to: path)
      }
    } catch {
      throw ConfigFileError("\(path) cannot be written: \(error.message)", path: path)
    }
  }

  private func restore() {
    if let broken = try? DurableFile.read(path) {
      try? DurableFile.write(broken, to: copyPath + ".damaged", keepsMode: false)
    }
    do {
      try write(members)
    } catch {
      logger.error("\(error)")
    }
  }

  private func keepCopy() {
    let bytes = JSON.object(members).bytes()
    if let kept = try? DurableFile.read(copyPath), kept == bytes { return }
    do {
      try DurableFile.write(bytes, to: copyPath, keepsMode: false)
    } catch {
      logger.warning("No copy of \(path) is kept: \(error.message)")
    }
  }
}
