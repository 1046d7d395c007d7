/// A partition of the host that the agent uses (host 1.3).
public nonisolated enum HostPartition: String, Sendable, Hashable, CaseIterable {
  case boot, state, data

  /// Labels contain one of these; the first is what hosts used to have.
  var labels: [String] { ["resin-\(rawValue)", "balena-\(rawValue)"] }

  /// Of what can be mounted, the device of this partition: one whose file system has a label of it, else
  /// one whose entry in the partition table has.
  ///
  /// - Parameter disk: node of the disk that the host started from; other disks may have the same labels.
  public func device(among devices: [BlockDevice], on disk: String) -> BlockDevice? {
    let candidates = devices.filter { $0.disk == disk }.sorted { $0.node < $1.node }
    func isMine(_ label: String?) -> Bool {
      label.map { text in labels.contains { text.contains($0) } } ?? false
    }
    return candidates.first { isMine($0.fileSystemLabel) } ?? candidates.first { isMine($0.partitionLabel) }
  }

  /// Encrypted mappings of this partition, by their names, that have to be resumed before they can be read.
  public func suspendedMappings(among devices: [BlockDevice]) -> [String] {
    devices.filter(\.isEncrypted).compactMap(\.suspendedMapping).filter { name in
      labels.contains { name.contains($0) }
    }
  }

  /// The disk that the host started from, where nobody can be asked: the only one that has a boot partition.
  public static func disk(among devices: [BlockDevice]) -> String? {
    let disks = Set(devices.compactMap(\.disk)).filter { boot.device(among: devices, on: $0) != nil }
    return disks.count == 1 ? disks.first : nil
  }
}

/// A block device as udev and the kernel describe it.
public nonisolated struct BlockDevice: Sendable, Hashable {
  /// Such as `/dev/mmcblk0p1`.
  public var node: String
  /// Device number (makedev(3)).
  public var number: UInt64
  /// Node of the whole disk that it lies on; nil for a disk.
  public var disk: String?
  public var fileSystemLabel: String?
  public var partitionLabel: String?
  /// Such as `ext4`; nil when nobody has looked.
  public var fileSystem: String?
  /// A mapping of dm-crypt.
  public var isEncrypted: Bool
  /// Name of a mapping of the device mapper that is suspended: whoever reads from it waits.
  public var suspendedMapping: String?

  public init(
    node: String, number: UInt64, disk: String?, fileSystemLabel: String? = nil,
    partitionLabel: String? = nil,
    fileSystem: String? = nil, isEncrypted: Bool = false, suspendedMapping: String? = nil
  ) {
    self.node = node
    self.number = number
    self.disk = disk
    self.fileSystemLabel = fileSystemLabel
    self.partitionLabel = partitionLabel
    self.fileSystem = fileSystem
    self.isEncrypted = isEncrypted
    self.suspendedMapping = suspendedMapping
  }
}

/// What is mounted, by `/proc/self/mountinfo` (proc(5)).
public nonisolated struct MountTable: Sendable, Hashable {
  /// Device numbers by mount point; of several at one place the last, which hides the others.
  public private(set) var devices: [String: UInt64] = [:]

  public init(_ text: String) {
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 4 else { continue }
      let number = fields[2].split(separator: ":").compactMap { UInt64($0) }
      guard number.count == 2 else { continue }
      devices[Self.unescaped(fields[4])] = deviceNumber(number[0], number[1])
    }
  }

  /// Blanks, tabs, line ends and backslashes stand as `\` and three octal digits.
  private static func unescaped(_ field: Substring) -> String {
    guard field.contains("\\") else { return String(field) }
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == UInt8(ascii: "\\"), digits.count == 3,
        let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(code)
        rest = rest.dropFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// makedev(3) of glibc.
  private func deviceNumber(_ major: UInt64, _ minor: UInt64) -> UInt64 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (major & ~0xfff) << 32
  }
}
