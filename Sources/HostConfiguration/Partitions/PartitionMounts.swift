import CSystemd
import Glibc
public import Logging

/// Puts the host's partitions in their places in the agent's container (host 1.3): `boot`, `state` and
/// `data` below `/mnt`, and the agent's own part of `data` at `/data`.
///
/// Nothing is done on the host itself, where an option or a variable names the place, where something is in
/// the place already, and where the host's own mount is seen below its root.
public struct PartitionMounts {
  /// Host units whose mounts tell the disk that the host started from; the others count where `mnt-boot.mount`
  /// is encrypted.
  private static let bootUnits = ["mnt-boot.mount", "mnt-efi.mount", "mnt-rpi.mount", "mnt-imx.mount"]
  private static let ownData = "/data"

  private let hostRoot: String
  private let places: [(partition: HostPartition, place: String)]
  private let usesOwnData: Bool
  private let logger: Logger

  /// - Parameter isChosen: whether an option or a variable says where a partition, or nil: the database, is.
  public init(
    hostRoot: String, isTest: Bool, logger: Logger, isChosen: (HostPartition?) -> Bool
  ) {
    self.hostRoot = hostRoot
    self.logger = logger
    let table = Self.table()
    // In a container the host's root is mounted; a directory that somebody tries the agent with is not.
    let isContainer = hostRoot != "/" && !isTest && table.devices[hostRoot] != nil
    usesOwnData = isContainer && !isChosen(nil)
    guard isContainer else {
      places = []
      return
    }
    places = HostPartition.allCases.filter { !isChosen($0) }.map { ($0, "/mnt/\($0.rawValue)") }
      .filter { _, place in !Self.isInUse(place, table) && !Self.isInUse(hostRoot + place, table) }
  }

  /// Nothing is to be done.
  public var isEmpty: Bool { places.isEmpty && !usesOwnData }

  /// - Parameter mountedDevice: `What` of a mount unit of the host, nil when nothing is mounted by it or nobody
  ///   can be asked.
  /// - Throws: one line that names the partition that the disk does not have, or what could not be mounted.
  public func make(mountedDevice: (String) async -> String?) async throws(FileError) {
    if !places.isEmpty {
      BlockDevices.useDatabase(ofHost: hostRoot)
      let devices = BlockDevices.all()
      for name in Set(HostPartition.allCases.flatMap { $0.suspendedMappings(among: devices) }) {
        resume(name)
      }
      guard let disk = await disk(devices, mountedDevice) else {
        let names = places.map(\.place).joined(separator: ", ")
        logger.warning("Nothing is mounted at \(names): the disk that the host started from is not known")
        return
      }
      for (partition, place) in places {
        guard let device = partition.device(among: devices, on: disk) else {
          let labels = partition.labels.joined(separator: " or ")
          throw FileError(ENOENT, "\(disk) has no partition labelled \(labels)", path: disk)
        }
        try mount(device, at: place)
      }
    }
    if usesOwnData { bindOwnData() }
  }

  /// The host may have left it suspended (host 1.3). Where it stays so, the mount tells what is wrong.
  private func resume(_ mapping: String) {
    if csystemd_resume_mapping(mapping) == 0 {
      logger.notice("The encrypted mapping \(mapping) was suspended: it goes on")
    } else {
      logger.warning(
        "The encrypted mapping \(mapping) is suspended and cannot be resumed: \(String(cString: strerror(errno)))"
      )
    }
  }

  private func disk(
    _ devices: [BlockDevice], _ mountedDevice: (String) async -> String?
  ) async -> String? {
    for unit in Self.bootUnits {
      guard let node = await mountedDevice(unit), let device = Self.device(node, among: devices) else {
        continue
      }
      if device.isEncrypted && unit == Self.bootUnits[0] { continue }
      return device.disk
    }
    return HostPartition.disk(among: devices)
  }

  /// A node may be a link, such as `/dev/mapper/…`: the number counts.
  private static func device(_ node: String, among devices: [BlockDevice]) -> BlockDevice? {
    if let device = devices.first(where: { $0.node == node }) { return device }
    var status = stat()
    guard stat(node, &status) == 0 else { return nil }
    return devices.first { $0.number == UInt64(status.st_rdev) }
  }

  private func mount(_ device: BlockDevice, at place: String) throws(FileError) {
    let isNew = !HostPaths.isDirectory(place)
    try DurableFile.makeDirectories(for: "\(place)/.")
    var code = ENODEV
    for type in device.fileSystem.map({ [$0] }) ?? Self.fileSystems() {
      if csystemd_mount(device.node, place, type, 0) == 0 {
        logger.notice("Mounted \(device.node) (\(type)) at \(place)")
        return
      }
      code = errno
      // Of the types that the kernel knows, others cannot help where this one may not be mounted at all.
      if code == EPERM || code == EACCES { break }
    }
    if isNew { rmdir(place) }
    throw FileError(
      code, "Cannot mount \(device.node) at \(place): \(String(cString: strerror(code)))", path: place)
  }

  /// The database belongs on the data partition; other programs look for it in `/data`.
  private func bindOwnData() {
    let data = ["/mnt/data", "\(hostRoot)/mnt/data"].first(where: HostPaths.isDirectory)
    guard let data, access("\(Self.ownData)/database.sqlite", F_OK) != 0,
      Self.table().devices[Self.ownData] == nil
    else { return }
    let stored = "\(data)/resin-data/balena-supervisor"
    do throws(FileError) {
      try DurableFile.makeDirectories(for: "\(stored)/.")
      let isNew = !HostPaths.isDirectory(Self.ownData)
      try DurableFile.makeDirectories(for: "\(Self.ownData)/.")
      guard csystemd_bind_shared(stored, Self.ownData) == 0 else {
        let code = errno
        // Without the directory the database is found where it is stored.
        if isNew { rmdir(Self.ownData) }
        throw FileError(
          code, "Cannot bind \(stored) to \(Self.ownData): \(String(cString: strerror(code)))", path: stored)
      }
    } catch {
      logger.warning("\(error)")
    }
  }

  private static func table() -> MountTable {
    MountTable(String(decoding: (try? DurableFile.read("/proc/self/mountinfo")) ?? [], as: UTF8.self))
  }

  private static func isInUse(_ place: String, _ table: MountTable) -> Bool {
    table.devices[place] != nil || !DurableFile.names(in: place).isEmpty
  }

  /// What the kernel can mount from a device, of what is loaded.
  private static func fileSystems() -> [String] {
    let text = String(decoding: (try? DurableFile.read("/proc/filesystems")) ?? [], as: UTF8.self)
    return text.split(separator: "\n").compactMap { line in
      line.hasPrefix("nodev") ? nil : String(line.drop { $0 == "\t" || $0 == " " })
    }
  }
}
