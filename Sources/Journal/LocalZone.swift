import CSystemd
import Glibc

/// The zone of local times, which a process reads once and an administrator may change.
public enum LocalZone {
  private static var known: [Int] = []

  /// Takes a changed `/etc/localtime` into account. Costs a look at the file.
  public static func refresh() {
    var status = stat()
    guard stat("/etc/localtime", &status) == 0 else { return }
    let found = [
      Int(status.st_dev), Int(status.st_ino), status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_size,
    ]
    defer { known = found }
    guard !known.isEmpty, found != known else { return }
    // glibc reads the file again only when it sees another zone in between.
    csystemd_zone_begin(":UTC")
    csystemd_zone_end()
  }
}
