import Glibc
import Logging
import Testing

@testable import HostConfiguration

/// Which device is which partition (host 1.3).
@Suite struct PartitionTests {
  private let devices = [
    BlockDevice(node: "/dev/mmcblk0", number: 1, disk: nil),
    BlockDevice(
      node: "/dev/mmcblk0p1", number: 2, disk: "/dev/mmcblk0", fileSystemLabel: "resin-boot",
      fileSystem: "vfat"),
    BlockDevice(
      node: "/dev/mmcblk0p5", number: 3, disk: "/dev/mmcblk0", fileSystemLabel: "balena-state",
      fileSystem: "ext4"),
    BlockDevice(
      node: "/dev/mmcblk0p6", number: 4, disk: "/dev/mmcblk0", partitionLabel: "resin-data"),
    BlockDevice(
      node: "/dev/sda1", number: 5, disk: "/dev/sda", fileSystemLabel: "resin-data", fileSystem: "ext4"),
  ]

  @Test func aLabelOfTheFileSystemGoesBeforeOneOfThePartition() {
    var devices = devices
    #expect(HostPartition.data.device(among: devices, on: "/dev/mmcblk0")?.node == "/dev/mmcblk0p6")
    devices.append(
      BlockDevice(
        node: "/dev/dm-0", number: 6, disk: "/dev/mmcblk0", fileSystemLabel: "resin-data", fileSystem: "ext4",
        isEncrypted: true))
    #expect(HostPartition.data.device(among: devices, on: "/dev/mmcblk0")?.node == "/dev/dm-0")
  }

  @Test func oldAndNewLabelsAreKnownAndOnlyThoseOfTheDisk() {
    #expect(HostPartition.boot.device(among: devices, on: "/dev/mmcblk0")?.node == "/dev/mmcblk0p1")
    #expect(HostPartition.state.device(among: devices, on: "/dev/mmcblk0")?.node == "/dev/mmcblk0p5")
    #expect(HostPartition.state.device(among: devices, on: "/dev/sda") == nil)
    #expect(HostPartition.data.device(among: devices, on: "/dev/sda")?.node == "/dev/sda1")
  }

  @Test func withoutAWordOfTheHostTheOnlyDiskWithABootPartitionCounts() {
    #expect(HostPartition.disk(among: devices) == "/dev/mmcblk0")
    let second = BlockDevice(node: "/dev/sda2", number: 7, disk: "/dev/sda", partitionLabel: "balena-boot")
    #expect(HostPartition.disk(among: devices + [second]) == nil)
    #expect(HostPartition.disk(among: []) == nil)
  }

  @Test func suspendedMappingsAreThoseOfThePartitionAndEncrypted() {
    func mapping(_ number: UInt64, _ name: String?, isEncrypted: Bool = true) -> BlockDevice {
      BlockDevice(
        node: "/dev/dm-\(number)", number: number, disk: nil, isEncrypted: isEncrypted, suspendedMapping: name
      )
    }
    let devices = [
      mapping(1, "luks-resin-boot"), mapping(2, nil), mapping(3, "balena-boot", isEncrypted: false),
      mapping(4, "luks-balena-data"), mapping(5, "other"),
    ]
    #expect(HostPartition.boot.suspendedMappings(among: devices) == ["luks-resin-boot"])
    #expect(HostPartition.data.suspendedMappings(among: devices) == ["luks-balena-data"])
    #expect(HostPartition.state.suspendedMappings(among: devices).isEmpty)
  }

  @Test func theTableOfMountsTellsTheLastDeviceAtAPlace() {
    let table = MountTable(
      """
      22 28 0:21 / /proc rw,nosuid - proc proc rw
      28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
      40 28 179:1 / /mnt/boot rw - vfat /dev/mmcblk0p1 rw
      41 40 7:300 / /mnt/boot rw - ext4 /dev/loop300 rw
      42 28 0:40 / /mnt/with\\040blank rw - tmpfs tmpfs rw
      broken
      """)
    #expect(table.devices["/mnt/boot"] == 1_050_412)
    #expect(table.devices["/mnt/with blank"] == 40)
    #expect(table.devices["/"] == 65_024)
    #expect(table.devices.count == 4)
  }

  @Test func nothingIsMountedOnTheHostItselfOrForADirectoryThatIsNoMount() {
    let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }
    for root in ["/", "/usr"] {
      #expect(
        PartitionMounts(hostRoot: root, isTest: false, logger: quiet) { _ in false }.isEmpty)
    }
    #expect(PartitionMounts(hostRoot: "/proc", isTest: true, logger: quiet) { _ in false }.isEmpty)
    #expect(PartitionMounts(hostRoot: "/proc", isTest: false, logger: quiet) { _ in true }.isEmpty)
  }

  @Test func theKernelsDevicesHaveNodesAndNumbers() {
    for device in BlockDevices.all() {
      var status = stat()
      guard stat(device.node, &status) == 0 else { continue }
      #expect(UInt64(status.st_rdev) == device.number)
    }
  }
}
