import Glibc
@testable import HostConfiguration
import TestSupport
import Testing

/// Files like those below /proc and /sys.
private final class Machine {
  let scratch = Scratch()

  func put(_ path: String, _ content: String) {
    var directory = scratch.path
    for part in path.split(separator: "/").dropLast() {
      directory += "/\(part)"
      mkdir(directory, 0o755)
    }
    write(content, to: scratch.file(path))
  }

  var metrics: SystemMetrics { SystemMetrics(root: scratch.path) }
}

struct SystemMetricsTests {
  private static let stat = """
    cpu  300 0 100 600 0 0 0 0 0 0
    cpu0 200 0 50 250 0 0 0 0 0 0
    cpu1 100 0 50 350 0 0 0 0 0 0
    intr 5

    """

  @Test func theUsageIsTheMeanOfTheProcessorsSinceTheReadingBefore() {
    let old = CPUTimes.all(of: Self.stat)
    #expect(old == [CPUTimes(busy: 250, total: 500), CPUTimes(busy: 150, total: 500)])
    let new = [CPUTimes(busy: 350, total: 600), CPUTimes(busy: 150, total: 600)]
    #expect(CPUTimes.usage(from: old, to: new, least: 20) == 50)
    #expect(CPUTimes.usage(from: old, to: old, least: 20) == nil)
    #expect(CPUTimes.usage(from: [], to: new, least: 20) == nil)
  }

  @Test func waitingForADiskIsNotBeingBusy() {
    #expect(CPUTimes.all(of: "cpu0 10 0 0 50 40 0 0 0 9 0\n") == [CPUTimes(busy: 10, total: 100)])
  }

  @Test func memoryInUseLeavesOutWhatTheKernelCanTakeBack() {
    let memory = Memory(
      parsing:
        "MemTotal: 1024000 kB\nMemFree: 102400 kB\nBuffers: 1024 kB\nCached: 10240 kB\nSReclaimable: 2048 kB\n"
    )
    #expect(memory?.total == 1000)
    #expect(memory?.used == 887)
    #expect(Memory(parsing: "MemTotal: x") == nil)
  }

  @Test func theDataPartitionIsTheFirstMountWithDataInItsPath() {
    let found = Mounts.data(
      in: """
        overlay / overlay rw 0 0
        tmpfs /mnt/data/tmp tmpfs rw 0 0
        /dev/mmcblk0p10 /mnt/da\\040ta/data ext4 rw 0 0
        /dev/mmcblk0p1 /mnt/data ext4 rw 0 0

        """)
    #expect(found?.device == "/dev/mmcblk0p10")
    #expect(found?.path == "/mnt/da ta/data")
    #expect(Mounts.data(in: "/dev/sda1 / ext4 rw 0 0\n") == nil)
  }

  @Test(
    arguments: [
      (["Tdie 1000", "Core 0 2000", "Tctl 41500"], 42), (["Core 0 40000", "Package id 0 50400"], 50),
      (["Core 0 40000", "Core 1 41000", "other 90000"], 41),
    ] as [([String], Int)])
  func theSensorIsChosenByItsLabel(sensors: [String], celsius: Int) {
    let machine = Machine()
    for (index, sensor) in sensors.enumerated() {
      let words = sensor.split(separator: " ")
      let label = words.dropLast().joined(separator: " ")
      machine.put("sys/class/hwmon/hwmon0/temp\(index + 1)_label", "\(label)\n")
      machine.put("sys/class/hwmon/hwmon0/temp\(index + 1)_input", "\(words[words.count - 1])\n")
    }
    #expect(machine.metrics.read().cpuTemperature == celsius)
  }

  @Test func withoutASensorTheProcessorsZoneCountsAndWithoutAnyThereIsNoTemperature() {
    let machine = Machine()
    #expect(machine.metrics.read().cpuTemperature == nil)
    machine.put("sys/class/thermal/thermal_zone0/type", "gpu\n")
    machine.put("sys/class/thermal/thermal_zone0/temp", "30000\n")
    #expect(machine.metrics.read().cpuTemperature == 30)
    machine.put("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n")
    machine.put("sys/class/thermal/thermal_zone1/temp", "47774\n")
    #expect(machine.metrics.read().cpuTemperature == 48)
  }

  @Test func theSerialNumberIsTheFirstThatSaysAnything() {
    let machine = Machine()
    #expect(machine.metrics.read().cpuID == nil)
    machine.put("sys/class/dmi/id/board_serial", "XYZ\n")
    machine.put("proc/device-tree/product-sn", "\0\0")
    #expect(machine.metrics.read().cpuID == "xyz")
    machine.put("proc/device-tree/serial-number", "10000000ABCDEF\0")
    #expect(machine.metrics.read().cpuID == "10000000abcdef")
  }

  @Test func aWeakSupplyIsToldByItsSensor() {
    let machine = Machine()
    machine.put("sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    machine.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    let metrics = machine.metrics
    #expect(metrics.read().isUndervolted)
    machine.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    #expect(!metrics.read().isUndervolted)
  }

  @Test func thisMachineHasMemoryAndProcessors() {
    let metrics = SystemMetrics()
    let values = metrics.read()
    #expect((values.memoryTotal ?? 0) > 0)
    #expect((values.memoryUsage ?? -1) >= 0 && (values.memoryUsage ?? 0) <= (values.memoryTotal ?? 0))
  }
}
