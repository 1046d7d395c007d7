import Glibc

/// Temperature of the processor (host 10; Documentation/hwmon/sysfs-interface.rst of the kernel).
nonisolated enum Temperature {
  /// Files with thousandths of a degree; of several the mean counts.
  static func sensors(root: String) -> [String] {
    var labelled: [(label: String, path: String)] = []
    for chip in DirectoryNames.of("\(root)/sys/class/hwmon") {
      let directory = "\(root)/sys/class/hwmon/\(chip)"
      for name in DirectoryNames.of(directory) where name.hasPrefix("temp") && name.hasSuffix("_label") {
        guard let label = kernelLine("\(directory)/\(name)") else { continue }
        labelled.append((label, "\(directory)/\(name.dropLast("label".count))input"))
      }
    }
    return chosen(labelled) ?? zone(root: root).map { [$0] } ?? []
  }

  static func chosen(_ labelled: [(label: String, path: String)]) -> [String]? {
    if let found = labelled.first(where: { $0.label == "Tctl" }) { return [found.path] }
    if let found = labelled.first(where: { sensor in
      let label = sensor.label.lowercased()
      return label.hasPrefix("package") || label.hasPrefix("physical") || sensor.label == "Tccd1"
    }) {
      return [found.path]
    }
    let cores = labelled.filter { $0.label.lowercased().hasPrefix("core") }.map(\.path)
    return cores.isEmpty ? nil : cores
  }

  /// The zone that is named for the processor, else the first.
  private static func zone(root: String) -> String? {
    let directory = "\(root)/sys/class/thermal"
    let zones = DirectoryNames.of(directory).filter { $0.hasPrefix("thermal_zone") }
    let named = zones.first { zone in
      (kernelLine("\(directory)/\(zone)/type") ?? "").lowercased().range(of: "cpu") != nil
    }
    return (named ?? zones.first { $0 == "thermal_zone0" }).map { "\(directory)/\($0)/temp" }
  }

  /// °C; nil when no sensor answers.
  static func read(_ sensors: [String]) -> Int? {
    let values = sensors.compactMap { kernelLine($0).flatMap { Double($0) } }
    guard !values.isEmpty else { return nil }
    return Int((values.reduce(0, +) / Double(values.count) / 1000).rounded())
  }
}

/// Whether the power supply is too weak: of a Raspberry Pi's own sensor, else out of the kernel's log.
final class Voltage {
  private static let recordsPerReading = 4096

  private let alarm: String?
  private let log: Int32
  private var isLow = false

  init(root: String) {
    let directory = "\(root)/sys/class/hwmon"
    let chip = DirectoryNames.of(directory).first { kernelLine("\(directory)/\($0)/name") == "rpi_volt" }
    alarm = chip.map { "\(directory)/\($0)/in0_lcrit_alarm" }
    log = chip == nil ? open("\(root)/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1
  }

  func read() -> Bool {
    if let alarm { return kernelLine(alarm) == "1" }
    guard log >= 0 else { return false }
    // One record for each read(2) (Documentation/ABI/testing/dev-kmsg of the kernel).
    var record = [UInt8](repeating: 0, count: 8192)
    for _ in 0..<Self.recordsPerReading {
      let count = Glibc.read(log, &record, record.count)
      if count < 0, errno == EPIPE || errno == EINTR { continue }
      guard count > 0 else { break }
      if let state = Self.state(saidBy: record[..<count]) { isLow = state }
    }
    return isLow
  }

  /// nil for a line about something else.
  nonisolated static func state(saidBy line: ArraySlice<UInt8>) -> Bool? {
    // Most lines are about something else: no text is made of them.
    guard line.contains(where: { $0 | 0x20 == UInt8(ascii: "v") }) else { return nil }
    let text = String(decoding: line, as: UTF8.self).lowercased()
    guard let voltage = text.range(of: "voltage") else { return nil }
    if let under = text.range(of: "under"), under.lowerBound < voltage.lowerBound { return true }
    return text[voltage.upperBound...].range(of: "normalised") != nil ? false : nil
  }
}

/// Names in a directory, sorted, without hidden ones; none of one that cannot be read.
nonisolated enum DirectoryNames {
  static func of(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }
}

/// First line of a file of the kernel's, without blanks at its ends.
nonisolated func kernelLine(_ path: String) -> String? {
  guard let bytes = try? DurableFile.read(path) else { return nil }
  return String(String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self).trimmed)
}
