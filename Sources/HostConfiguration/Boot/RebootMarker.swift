import Glibc

/// The file by which host and agent know that a reboot is needed (host 3.6).
///
/// It holds the id of the boot in which it was made: a device without a clock must neither lose a
/// reboot nor repeat one. One that others made, and that is empty, counts by its time.
public final class RebootMarker {
  private let path: String
  private let facts: HostFacts

  public init(path: String, facts: HostFacts) {
    self.path = path
    self.facts = facts
  }

  public func set() throws(FileError) {
    try DurableFile.makeDirectories(for: path)
    try DurableFile.write(Array((facts.bootID ?? "").utf8), to: path)
  }

  /// Takes it back, for a change that was not made after all.
  public func remove() { unlink(path) }

  /// Whether the device has not been rebooted since the marker was set.
  public var isRequired: Bool {
    guard let content = try? DurableFile.read(path) else { return false }
    if let bootID = facts.bootID, !content.isEmpty { return content == Array(bootID.utf8) }
    var status = stat()
    return stat(path, &status) == 0 && Int64(status.st_mtim.tv_sec) > bootTime
  }

  /// Of the running system, in seconds since 1970.
  public var bootTime: Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) - facts.uptime.components.seconds
  }
}
