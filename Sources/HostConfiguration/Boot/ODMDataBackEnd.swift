import Glibc
import Logging

/// Lane configuration of a Jetson TX2, one byte at three places of its boot medium (host 4.6).
public final class ODMDataBackEnd: BootBackEnd {
  public let name = "ODMDATA"
  private static let prefix = "HOST_ODMDATA_"
  private static let optionName = "configuration"
  private static let offsets: [off_t] = [1659, 5243, 18043]
  /// By mode, from 1.
  private static let bytes: [UInt8] = [0x0, 0x1, 0x6, 0x7, 0x2, 0x3]

  private let device: String
  private let readOnlySwitch: String
  private let logger: Logger
  private let report: (String) -> Void

  /// - Parameter report: takes what went wrong beside a write.
  init(device: String, readOnlySwitch: String, logger: Logger, report: @escaping (String) -> Void) {
    self.device = device
    self.readOnlySwitch = readOnlySwitch
    self.logger = logger
    self.report = report
  }

  public func option(for variable: String) -> String? {
    guard variable.hasPrefix(Self.prefix), variable.count > Self.prefix.count else { return nil }
    return String(variable.dropFirst(Self.prefix.count))
  }

  public func variable(for option: String) -> String { Self.prefix + option }

  private func open(_ flags: Int32) throws(BootError) -> Int32 {
    let descriptor = Glibc.open(device, flags | O_CLOEXEC)
    guard descriptor < 0 else { return descriptor }
    switch errno {
    case ENOENT: throw BootError("File not found at: \(device)")
    case EACCES, EPERM: throw BootError("Permission denied when opening '\(device)'")
    default: throw BootError("Unknown error when opening '\(device)'")
    }
  }

  public func read() throws(BootError) -> BootOptions {
    let descriptor = try open(O_RDONLY)
    defer { close(descriptor) }
    var found: [UInt8] = []
    for offset in Self.offsets {
      var byte: UInt8 = 0
      guard pread(descriptor, &byte, 1, offset) == 1 else {
        throw BootError("Unable to parse ODMDATA configuration. \(device) cannot be read.")
      }
      found.append(byte)
    }
    guard found.allSatisfy({ $0 == found[0] }) else {
      throw BootError("Unable to parse ODMDATA configuration. Data at offsets do not match.")
    }
    guard let mode = Self.bytes.firstIndex(of: found[0]) else {
      logger.error("ODMDATA is set with an unsupported byte: 0x\(found[0])")
      throw BootError("Unable to parse ODMDATA configuration. Unsupported configuration byte set.")
    }
    return [Self.optionName: .text(String(mode + 1))]
  }

  /// A target without a mode leaves the device as it is, and so does one that does not exist.
  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    var problems = target.keys.filter { $0 != Self.optionName }.sorted()
      .map { "Not setting unsupported value: { \($0) }" }
    guard let text = target[Self.optionName]?.list.first else {
      return BootTarget(current, problems: problems)
    }
    guard let mode = Int(text), (1...Self.bytes.count).contains(mode) else {
      problems.append("Configuration mode of: \(text) is not supported.")
      return BootTarget(current, problems: problems)
    }
    return BootTarget([Self.optionName: .text(String(mode))], problems: problems)
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    guard let text = options[Self.optionName]?.list.first, let mode = Int(text),
      (1...Self.bytes.count).contains(mode)
    else { return }
    guard try read() != options else { return }
    try setReadOnly("0")
    defer { lock() }
    try put(Self.bytes[mode - 1])
  }

  /// The byte counts, and so does the reboot that it needs, also where the medium cannot be locked again: this is a
  /// failure of its own. The kernel locks it with the next boot.
  private func lock() {
    do throws(BootError) { try setReadOnly("1") } catch {
      report("ODMDATA: \(device) stays writable until the next boot: \(error.message)")
    }
  }

  private func put(_ value: UInt8) throws(BootError) {
    let descriptor = try open(O_WRONLY | O_SYNC)
    defer { close(descriptor) }
    var byte = value
    for offset in Self.offsets where pwrite(descriptor, &byte, 1, offset) != 1 {
      throw BootError("\(device) cannot be written: \(String(cString: strerror(errno)))")
    }
    guard fsync(descriptor) == 0 else {
      throw BootError("\(device) cannot be written: \(String(cString: strerror(errno)))")
    }
  }

  private func setReadOnly(_ text: String) throws(BootError) {
    let descriptor = Glibc.open(readOnlySwitch, O_WRONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      guard errno != ENOENT else { throw BootError("File not found at: \(readOnlySwitch)") }
      throw BootError("\(readOnlySwitch) cannot be opened: \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var bytes = Array(text.utf8)
    guard Glibc.write(descriptor, &bytes, bytes.count) == bytes.count else {
      throw BootError("\(readOnlySwitch) cannot be written: \(String(cString: strerror(errno)))")
    }
  }
}
