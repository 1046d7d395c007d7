import EventLoop
import Glibc
import JSON
import Logging

/// ACPI tables that an Up board loads over ConfigFS (host 4.5; the kernel's ssdt-overlays.rst).
public final class ConfigFSBackEnd: BootBackEnd {
  public let name = "ConfigFS"
  private static let variableName = "HOST_CONFIGFS_ssdt"
  private let path: String
  private let tables: String
  private let kernelTables: String
  private let hostRoot: String
  private let modprobe: String
  private let makeTable: (String) -> Int32
  private let logger: Logger
  private let report: (String, String) -> Void
  private var hasPrepared = false

  /// - Parameter report: takes a message for the user and the name of its event.
  init(
    paths: HostPaths, modprobe: String = KernelModule.modprobe, logger: Logger,
    makeTable: @escaping (String) -> Int32 = { mkdir($0, 0o755) },
    report: @escaping (String, String) -> Void
  ) {
    self.modprobe = modprobe
    self.makeTable = makeTable
    path = paths.configFS
    tables = paths.acpiTables
    kernelTables = paths.acpiConfigFS
    hostRoot = paths.hostRoot
    self.logger = logger
    self.report = report
  }

  public func option(for variable: String) -> String? { variable == Self.variableName ? "ssdt" : nil }
  public func variable(for option: String) -> String { Self.variableName }

  public func decode(_ text: String, option: String) throws(BootError) -> BootValue {
    guard text.hasPrefix("\"") else { return .list(text.isEmpty ? [] : [text]) }
    return .list(
      text.split(separator: ",", omittingEmptySubsequences: false)
        .map { String($0.filter { $0 != "\"" }.trimmed) })
  }

  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    guard let names = target["ssdt"]?.list else { return BootTarget([:]) }
    let usable = names.filter(Self.isName)
    let problems = names.filter { !Self.isName($0) }.map {
      "Ignoring the ACPI table '\($0)': not a file name"
    }
    return BootTarget(usable.isEmpty ? [:] : ["ssdt": .list(usable)], problems: problems)
  }

  private static func isName(_ text: String) -> Bool {
    !text.isEmpty && !text.hasPrefix(".") && !text.contains("/") && BootText.isLine(text)
  }

  public func read() throws(BootError) -> BootOptions {
    guard let items = try members()["ssdt"]?.arrayValue else { return [:] }
    let names = items.compactMap(\.stringValue)
    return names.isEmpty ? [:] : ["ssdt": .list(names)]
  }

  private func members() throws(BootError) -> JSONObject {
    guard let text = try BootText.read(path) else { return [:] }
    if let object = (try? JSON(parsing: text))?.objectValue { return object }
    logger.error("\(path) is not a JSON object: it counts as empty")
    return [:]
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    let old = try BootText.read(path) ?? ""
    let current = try read()
    guard options != current else { return }
    var members = try members()
    members["ssdt"] = JSON(options["ssdt"]?.list ?? [])
    try await BootText.write(JSON.object(members).serialized(), over: old, to: path)
  }

  /// Loads the tables, once after start.
  public func prepare() async {
    guard !hasPrepared else { return }
    hasPrepared = true
    do throws(SystemError) {
      let outcome = try await KernelModule.load(
        "acpi_configfs", hostRoot: hostRoot, modprobe: modprobe)
      if !outcome.isSuccess {
        logger.error("Unable to initialise ConfigFS: \(String(decoding: outcome.errorOutput, as: UTF8.self))")
        return
      }
    } catch {
      logger.error("Unable to initialise ConfigFS: \(error)")
      return
    }
    do throws(BootError) {
      for name in try read()["ssdt"]?.list ?? [] where Self.isName(name) { load(name) }
    } catch {
      logger.error("Unable to initialise ConfigFS: \(error)")
    }
  }

  private func load(_ name: String) {
    guard let content = try? DurableFile.read("\(tables)/\(name).aml") else {
      return report("Missing AML for '\(name)'. Unable to load.", "Load AML error")
    }
    let directory = "\(kernelTables)/\(name)"
    guard makeTable(directory) == 0 else {
      if errno != EEXIST { logger.error("Unable to initialise ConfigFS: \(directory): errno \(errno)") }
      return
    }
    let descriptor = open("\(directory)/aml", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      return logger.error("Unable to initialise ConfigFS: \(directory)/aml: errno \(errno)")
    }
    // The attribute takes the table in one write.
    let written = content.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
    guard written == content.count else {
      return logger.error("Unable to initialise ConfigFS: the kernel refused the table \(name)")
    }
    for attribute in ["oem_id", "oem_table_id", "oem_revision"] {
      if let value = try? DurableFile.read("\(directory)/\(attribute)") {
        logger.info("AML: \(name) \(attribute): \(String(decoding: value, as: UTF8.self).trimmed)")
      }
    }
  }
}
