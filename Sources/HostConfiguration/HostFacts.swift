import Glibc
import JSON
import Logging

/// What is known of the device without asking anyone: type, operating system, kernel.
///
/// Files that never change while the device is up are read until they could be read once, and then kept.
public final class HostFacts {
  public static let unknown = "unknown"

  private let paths: HostPaths
  private let logger: Logger
  private var cachedType: (slug: String, architecture: String)?
  private var hasWarnedOfRelease = false
  private var cachedRelease: OSRelease?
  private var reportedFields: Set<String> = []

  public init(paths: HostPaths, logger: Logger) {
    self.paths = paths
    self.logger = logger
  }

  /// Slug of the device type, `unknown` where device-type.json cannot be read (host 1.5).
  public var deviceType: String { type?.slug ?? Self.unknown }

  /// Architecture of the device type, `unknown` where device-type.json cannot be read.
  public var architecture: String { type?.architecture ?? Self.unknown }

  private var type: (slug: String, architecture: String)? {
    if let cachedType { return cachedType }
    guard let content = try? BootFile.read(paths.deviceType), let json = try? JSON(parsing: content),
      let slug = json["slug"]?.stringValue
    else { return nil }
    cachedType = (slug, json["arch"]?.stringValue ?? Self.unknown)
    return cachedType
  }

  /// nil where the file cannot be read; it is tried again each time, and the failure reported once.
  public var osRelease: OSRelease? {
    if let cachedRelease { return cachedRelease }
    do {
      let content = try DurableFile.read(paths.osRelease)
      cachedRelease = OSRelease(parsing: String(decoding: content, as: UTF8.self))
    } catch {
      if !hasWarnedOfRelease { logger.warning("Could not read the OS release: \(error.message)") }
      hasWarnedOfRelease = true
    }
    return cachedRelease
  }

  /// A field of os-release; one that is missing is reported once.
  public func releaseField(_ field: String) -> String? {
    guard let release = osRelease else { return nil }
    if let value = release[field] { return value }
    if reportedFields.insert(field).inserted {
      logger.warning("Field \(field) is not available in OS information file: \(paths.osRelease)")
    }
    return nil
  }

  /// The host's name from its `/etc/hostname`, nil where it cannot be read.
  public var hostname: String? {
    guard let content = try? DurableFile.read(paths.hostname) else { return nil }
    let first = String(decoding: content, as: UTF8.self).split(whereSeparator: \.isNewline).first
    let name = first.map { $0.filter { !$0.isWhitespace } } ?? ""
    return name.isEmpty ? nil : name
  }

  /// Whether the host has `/lib/firmware`, which some services mount.
  public var hasFirmware: Bool { HostPaths.isDirectory(paths.onHost("lib/firmware")) }

  /// Whether the host has `/lib/modules`, which some services mount.
  public var hasKernelModules: Bool { HostPaths.isDirectory(paths.onHost("lib/modules")) }

  /// Differs after each boot; nil where /proc is missing.
  public var bootID: String? {
    guard let content = try? DurableFile.read("/proc/sys/kernel/random/boot_id") else { return nil }
    let id = String(decoding: content, as: UTF8.self).filter { !$0.isWhitespace }
    return id.isEmpty ? nil : id
  }

  /// Time since boot, suspended time included.
  public var uptime: Duration {
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  public var kernel: Kernel { Kernel.running }
}

/// The kernel as container contracts see it (host 11).
public nonisolated struct Kernel: Sendable, Hashable {
  /// `uname -s` in lower case.
  public let slug: String
  /// `uname -r`.
  public let release: String

  public init(name: String, release: String) {
    slug = name.lowercased()
    self.release = release
  }

  /// The leading `d.d.d` of the release; nil when it has none (`6.1-rc1`).
  public var version: String? {
    let (numbers, _) = Self.leadingNumbers(release[...], most: 3)
    return numbers.count == 3 ? numbers.joined(separator: ".") : nil
  }

  /// NVIDIA's L4T version out of a release such as `4.9.140-l4t-r32.2+g…`, always with three numbers.
  public var l4tVersion: String? {
    let marker = "-l4t-r"
    var rest = release[...]
    while !rest.isEmpty, !rest.hasPrefix(marker) { rest.removeFirst() }
    let (numbers, _) = Self.leadingNumbers(rest.dropFirst(marker.count), most: 3)
    guard numbers.count >= 2 else { return nil }
    return (numbers.count == 2 ? numbers + ["0"] : numbers).joined(separator: ".")
  }

  private static func leadingNumbers(_ text: Substring, most: Int) -> ([String], rest: Substring) {
    var numbers: [String] = []
    var rest = text
    while numbers.count < most {
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      guard !digits.isEmpty else { break }
      numbers.append(String(digits))
      rest = rest.dropFirst(digits.count)
      guard rest.first == "." else { break }
      rest.removeFirst()
    }
    return (numbers, rest)
  }

  public static var running: Kernel {
    var names = utsname()
    guard uname(&names) == 0 else { return Kernel(name: "Linux", release: "") }
    func text(_ field: some BitwiseCopyable) -> String {
      withUnsafeBytes(of: field) { bytes in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
    }
    return Kernel(name: text(names.sysname), release: text(names.release))
  }
}
