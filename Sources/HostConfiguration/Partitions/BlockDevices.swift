import CSystemd
import Glibc

/// The host's block devices through libudev(3).
public enum BlockDevices {
  /// Udev's daemon keeps what it found out about devices here, also for the programs of a container.
  private static let database = "/run/udev"

  /// In a container udev's database is the host's; without it only the kernel's own word is there.
  public static func useDatabase(ofHost root: String) {
    var status = stat()
    guard root != "/", lstat(database, &status) != 0 else { return }
    _ = symlink("\(root)/run/udev", database)
  }

  /// Everything that could be mounted, and whole disks.
  public static func all() -> [BlockDevice] {
    guard let udev = udev_new() else { return [] }
    defer { udev_unref(udev) }
    guard let enumeration = udev_enumerate_new(udev) else { return [] }
    defer { udev_enumerate_unref(enumeration) }
    guard udev_enumerate_add_match_subsystem(enumeration, "block") >= 0,
      udev_enumerate_scan_devices(enumeration) >= 0
    else { return [] }
    var found: [BlockDevice] = []
    var entry = udev_enumerate_get_list_entry(enumeration)
    while let current = entry {
      entry = udev_list_entry_get_next(current)
      guard let device = udev_device_new_from_syspath(udev, udev_list_entry_get_name(current)) else {
        continue
      }
      if let value = blockDevice(device) { found.append(value) }
      udev_device_unref(device)
    }
    return found
  }

  private static func blockDevice(_ device: OpaquePointer) -> BlockDevice? {
    guard let node = udev_device_get_devnode(device).map({ String(cString: $0) }) else { return nil }
    func property(_ name: String) -> String? {
      guard let value = udev_device_get_property_value(device, name) else { return nil }
      return value.pointee == 0 ? nil : String(cString: value)
    }
    let mapping = attribute(device, "dm/uuid")
    return BlockDevice(
      node: node, number: UInt64(udev_device_get_devnum(device)), disk: disk(of: device),
      fileSystemLabel: property("ID_FS_LABEL"),
      // The kernel tells the name that a GPT gives; udev that of other tables too.
      partitionLabel: property("ID_PART_ENTRY_NAME") ?? property("PARTNAME"),
      fileSystem: property("ID_FS_USAGE") == "crypto" ? nil : property("ID_FS_TYPE"),
      isEncrypted: mapping?.hasPrefix("CRYPT-") ?? false,
      suspendedMapping: attribute(device, "dm/suspended") == "1" ? attribute(device, "dm/name") : nil)
  }

  private static func attribute(_ device: OpaquePointer, _ name: String) -> String? {
    udev_device_get_sysattr_value(device, name).map { String(cString: $0) }
  }

  /// The disk of a partition; of a mapping, that of what is below it.
  private static func disk(of device: OpaquePointer, depth: Int = 0) -> String? {
    if let disk = udev_device_get_parent_with_subsystem_devtype(device, "block", "disk") {
      return udev_device_get_devnode(disk).map { String(cString: $0) }
    }
    guard depth < 8, let path = udev_device_get_syspath(device).map({ String(cString: $0) }),
      let slave = DurableFile.names(in: "\(path)/slaves").sorted().first,
      let below = udev_device_new_from_syspath(udev_device_get_udev(device), "/sys/class/block/\(slave)")
    else { return nil }
    defer { udev_device_unref(below) }
    return disk(of: below, depth: depth + 1) ?? udev_device_get_devnode(below).map { String(cString: $0) }
  }
}
