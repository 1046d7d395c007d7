import Glibc
public import JSON
public import Logging

/// Hostname and proxy of the host: what the files say, and what a request changes of them (host 5).
///
/// A request is first compared with the files. What would not change is not written, locked or
/// restarted for.
public final class HostConfigFiles {
  private let paths: HostPaths
  private let settings: Settings
  private let logger: Logger

  public init(paths: HostPaths, settings: Settings, logger: Logger) {
    self.paths = paths
    self.settings = settings
    self.logger = logger
  }

  // MARK: Reading

  /// The member `network` of `GET /v1/device/host-config`.
  ///
  /// - Parameter hostname: the name that the host has now.
  public func current(hostname: String?) throws(FileError) -> JSON {
    var network: JSONObject = ["hostname": .string(hostname ?? "")]
    if let text = try read(paths.redsocks) {
      let file = RedsocksFile(parsing: text) { [logger] in logger.warning("\($0)") }
      var proxy = file.json
      let noProxy = try self.noProxy()
      if !noProxy.isEmpty { proxy["noProxy"] = JSON(noProxy) }
      network["proxy"] = .object(proxy)
      if let dns = file.dns.text { network["dns"] = .string(dns) }
    }
    return ["network": .object(network)]
  }

  private func noProxy() throws(FileError) -> [String] {
    guard let text = try read(paths.noProxy) else { return [] }
    return text.split(separator: "\n").map(String.init)
  }

  /// nil for a file that does not exist.
  private func read(_ path: String) throws(FileError) -> String? {
    do throws(FileError) { return ByteText.decode(try BootFile.read(path)) } catch {
      if error.code == ENOENT { return nil }
      throw error
    }
  }

  // MARK: Changing

  /// What a request changes; nil members stay as they are.
  public nonisolated struct Change: Sendable, Hashable {
    public var hostname: String?
    var redsocks: FileChange?
    var noProxy: FileChange?

    public var isEmpty: Bool { hostname == nil && !changesProxy }
    public var changesProxy: Bool { redsocks != nil || noProxy != nil }

    enum FileChange: Sendable, Hashable {
      case write(String)
      case delete
    }
  }

  public func change(for request: HostConfigRequest) throws(FileError) -> Change {
    var change = Change()
    switch request.hostname {
    case nil: break
    case .reset: change.hostname = String((settings.string(.uuid) ?? "").prefix(7))
    case .name(let name): change.hostname = name
    }
    if change.hostname == settings.string(.hostname) { change.hostname = nil }

    switch request.proxy {
    case nil: break
    case .remove: if try read(paths.redsocks) != nil { change.redsocks = .delete }
    case .update(let members, let dns, let noProxy):
      if let noProxy { change.noProxy = try changeOfNoProxy(noProxy) }
      if !members.isEmpty || dns != nil { change.redsocks = try changeOfRedsocks(members, dns) }
    }
    return change
  }

  private func changeOfNoProxy(_ wanted: [String]) throws(FileError) -> Change.FileChange? {
    let current = try noProxy()
    if wanted.filter({ !$0.isEmpty }).isEmpty {
      return access(paths.noProxy, F_OK) == 0 ? .delete : nil
    }
    let isSame = wanted.count == current.count && current.allSatisfy(wanted.contains)
    return isSame ? nil : .write(wanted.joined(separator: "\n"))
  }

  private func changeOfRedsocks(
    _ members: [HostConfigRequest.Member], _ dns: HostConfigRequest.DNS?
  ) throws(FileError) -> Change.FileChange? {
    let text = try read(paths.redsocks)
    let current = text.map(RedsocksFile.init(mergingInto:)) ?? RedsocksFile()
    let next = current.applying(members, dns: dns)
    guard let content = next.text else { return text == nil ? nil : .delete }
    // What others have added to the file is no reason to write it.
    if text != nil, next == current { return nil }
    return content == text ? nil : .write(content)
  }

  /// Writes hostname and files; the caller holds the update locks.
  ///
  /// - Throws: with a text for the caller of the API. What was written before stays.
  public func apply(_ change: Change) async throws(HostConfigError) {
    if let hostname = change.hostname {
      do throws(SettingError) { try await settings.set([.hostname: .string(hostname)]) } catch {
        throw HostConfigError(error.description)
      }
    }
    do throws(FileError) {
      if let noProxy = change.noProxy { try await apply(noProxy, to: paths.noProxy) }
      if let redsocks = change.redsocks { try await apply(redsocks, to: paths.redsocks) }
    } catch {
      throw HostConfigError(error.message)
    }
  }

  private func apply(_ change: Change.FileChange, to path: String) async throws(FileError) {
    switch change {
    case .write(let text):
      try DurableFile.makeDirectories(for: path)
      try await BootFile.write(ByteText.encode(text), to: path)
    case .delete:
      guard unlink(path) == 0 || errno == ENOENT else {
        throw FileError(errno, "Cannot delete \(path): \(String(cString: strerror(errno)))", path: path)
      }
      try await DurableFile.flush(DurableFile.directory(of: path))
    }
  }
}

/// Why a change of the host's configuration was not made; a text for the caller of the API.
public nonisolated struct HostConfigError: Error, Sendable, Hashable, CustomStringConvertible {
  public let message: String
  public init(_ message: String) { self.message = message }
  public var description: String { message }
}
