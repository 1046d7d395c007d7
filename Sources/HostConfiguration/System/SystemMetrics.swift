import Glibc

/// What the device's hardware is and how busy it is (host 10), out of /proc and /sys.
///
/// No child process and no timer: values are read when somebody asks. Where things are that do not
/// move, such as sensors, is looked up once.
public final class SystemMetrics {
  /// nil is a value that this device does not have.
  public nonisolated struct Values: Sendable, Hashable {
    /// Percent of all processors since the reading before.
    public var cpuUsage: Int?
    /// MiB.
    public var memoryTotal: Int?
    /// MiB.
    public var memoryUsage: Int?
    /// Empty when nothing is mounted for data.
    public var storageDevice = ""
    /// MiB.
    public var storageTotal: Int?
    /// MiB.
    public var storageUsage: Int?
    /// °C.
    public var cpuTemperature: Int?
    public var cpuID: String?
    public var isUndervolted = false
  }

  /// Shorter intervals say little; the last result counts on.
  private static let shortestInterval: UInt64 = 20

  private let root: String
  private var lastTimes: [CPUTimes] = []
  private var cpuUsage: Int?
  private var mount: (device: String, path: String)?
  private lazy var sensors = Temperature.sensors(root: root)
  private lazy var cpuID = Hardware.cpuID(root: root)
  private lazy var voltage = Voltage(root: root)

  /// - Parameter root: what stands before /proc and /sys; for tests.
  public init(root: String = "") {
    self.root = root
    // So that the first report is about what follows, not about the time since boot.
    lastTimes = CPUTimes.all(of: Self.text("\(root)/proc/stat") ?? "")
  }

  public func read() -> Values {
    var values = Values()
    values.cpuUsage = readCPU()
    if let memory = Memory(parsing: Self.text("\(root)/proc/meminfo") ?? "") {
      values.memoryTotal = memory.total
      values.memoryUsage = memory.used
    }
    readStorage(into: &values)
    values.cpuTemperature = Temperature.read(sensors)
    values.cpuID = cpuID
    values.isUndervolted = voltage.read()
    return values
  }

  private func readCPU() -> Int? {
    let times = CPUTimes.all(of: Self.text("\(root)/proc/stat") ?? "")
    guard let usage = CPUTimes.usage(from: lastTimes, to: times, least: Self.shortestInterval) else {
      if times.count != lastTimes.count { lastTimes = times }
      return cpuUsage
    }
    lastTimes = times
    cpuUsage = usage
    return usage
  }

  private func readStorage(into values: inout Values) {
    if mount == nil { mount = Mounts.data(in: Self.text("\(root)/proc/self/mounts") ?? "") }
    guard let mount else { return }
    var status = statvfs()
    guard statvfs(mount.path, &status) == 0 else {
      self.mount = nil
      return
    }
    values.storageDevice = mount.device
    let blockSize = UInt64(status.f_frsize)
    values.storageTotal = Int(UInt64(status.f_blocks) * blockSize >> 20)
    values.storageUsage = Int(
      UInt64(status.f_blocks - min(status.f_bfree, status.f_blocks)) * blockSize >> 20)
  }

  /// Content of a file of the kernel's.
  static func text(_ path: String) -> String? {
    guard let bytes = try? DurableFile.read(path) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Ticks of one processor out of /proc/stat (proc(5)).
public nonisolated struct CPUTimes: Sendable, Hashable {
  public var busy: UInt64
  public var total: UInt64

  /// Of the single processors, in their order.
  public static func all(of text: String) -> [CPUTimes] {
    text.split(separator: "\n").compactMap { line in
      guard line.hasPrefix("cpu"), let digit = line.utf8.dropFirst(3).first, (0x30...0x39).contains(digit)
      else { return nil }
      let ticks = line.split(separator: " ").dropFirst().compactMap { UInt64($0) }
      // user nice system idle iowait irq softirq steal guest guest_nice; guests count as users already.
      guard ticks.count >= 4 else { return nil }
      let idle = ticks[3] &+ (ticks.count > 4 ? ticks[4] : 0)
      let total = ticks.prefix(8).reduce(0, &+)
      return CPUTimes(busy: total &- idle, total: total)
    }
  }

  /// Mean over the processors in percent; nil when too little time has passed.
  ///
  /// - Parameter least: ticks of a processor between two readings.
  public static func usage(from old: [CPUTimes], to new: [CPUTimes], least: UInt64) -> Int? {
    guard !new.isEmpty, old.count == new.count else { return nil }
    var sum = 0.0
    for (old, new) in zip(old, new) {
      guard new.total >= old.total, new.total - old.total >= least else { return nil }
      let busy = new.busy >= old.busy ? new.busy - old.busy : 0
      sum += min(1, Double(busy) / Double(new.total - old.total))
    }
    return Int((sum / Double(new.count) * 100).rounded())
  }
}

/// Out of /proc/meminfo, in MiB.
public nonisolated struct Memory: Sendable, Hashable {
  public var total: Int
  public var used: Int

  public init?(parsing text: String) {
    var fields: [Substring: Int] = [:]
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let value = line[line.index(after: colon)...].split(separator: " ").first.flatMap { Int($0) }
      fields[line[..<colon]] = value
    }
    guard let total = fields["MemTotal"], let free = fields["MemFree"] else { return nil }
    let reclaimable = ["Cached", "Buffers", "SReclaimable"].reduce(0) { $0 + (fields[Substring($1)] ?? 0) }
    self.total = total / 1024
    used = max(0, total - free - reclaimable) / 1024
  }
}

/// What is mounted (fstab(5)).
public nonisolated enum Mounts {
  /// The first file system whose mount point has `/data` in it.
  ///
  /// - Parameter text: of /proc/self/mounts.
  public static func data(in text: String) -> (device: String, path: String)? {
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count > 2, words[0].hasPrefix("/dev/"), words[1].range(of: "/data") != nil else { continue }
      return (unescaped(words[0]), unescaped(words[1]))
    }
    return nil
  }

  /// Blanks are written as `\040`.
  private static func unescaped(_ text: Substring) -> String {
    String(text).replacing("\\040", with: " ").replacing("\\011", with: "\t").replacing("\\134", with: "\\")
  }
}

/// What the hardware says of itself.
nonisolated enum Hardware {
  /// Serial number, lower case; nil where there is none that says anything.
  static func cpuID(root: String) -> String? {
    for path in [
      "/proc/device-tree/serial-number", "/proc/device-tree/product-sn", "/sys/devices/soc0/serial_number",
      "/sys/class/dmi/id/board_serial",
    ] {
      guard let bytes = try? DurableFile.read(root + path) else { continue }
      let text = String(decoding: bytes.filter { $0 != 0 }, as: UTF8.self).trimmed.lowercased()
      if !text.isEmpty { return text }
    }
    return nil
  }
}
