import Glibc
import Logging

/// config.txt on the boot partition (host 4.2).
public final class ConfigTextBackEnd: BootBackEnd {
  public let name = "config.txt"
  private static let prefix = "HOST_CONFIG_"
  /// Neither added nor changed by a target; those on the device stay.
  private static let forbidden: Set<String> = [
    "disable_commandline_tags", "cmdline", "kernel", "kernel_address", "kernel_old", "ramfsfile", "ramfsaddr",
    "initramfs", "device_tree_address", "init_emmc_clock", "avoid_safe_mode",
  ]

  private let path: String
  private let deviceType: String
  private let logger: Logger

  init(path: String, deviceType: String, logger: Logger) {
    self.path = path
    self.deviceType = deviceType
    self.logger = logger
  }

  static func matches(_ type: String) -> Bool {
    type.hasPrefix("raspberry")
      || [
        "fincm3", "rt-rpi-300", "243390-rpi3", "nebra-hnt", "revpi-connect", "revpi-connect-s",
        "revpi-core-3",
        "revpi-connect-4",
      ].contains(type)
  }

  public func option(for variable: String) -> String? {
    guard variable.hasPrefix(Self.prefix), variable.count > Self.prefix.count else { return nil }
    let option = String(variable.dropFirst(Self.prefix.count))
    // Both are of the power and fan back end.
    return option == "power_mode" || option == "fan_profile" ? nil : option
  }

  public func variable(for option: String) -> String { Self.prefix + option }

  public func decode(_ text: String, option: String) throws(BootError) -> BootValue {
    guard ConfigText.listKeys.contains(option) else { return .text(text) }
    let trimmed = String(text.trimmed)
    guard trimmed.hasPrefix("\"") else { return .list([trimmed]) }
    return .list(try BootList.decode(trimmed))
  }

  public func read() throws(BootError) -> BootOptions {
    let file = ConfigText(parsing: try BootText.read(path) ?? "")
    for line in file.unknownLines {
      logger.warning("Could not parse config.txt entry: \(line). Ignoring.")
    }
    return file.options
  }

  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    var options = target
    var problems: [String] = []
    for key in Self.forbidden {
      if let wanted = target[key], wanted != current[key] {
        problems.append("Attempt to change blacklisted config value \(key)")
      }
      options[key] = current[key]
    }
    for (key, value) in options
    where !Self.isSafe(key) || value.list.contains(where: { !BootText.isLine($0) }) {
      problems.append("Ignoring invalid value of \(variable(for: key)): it is not one line")
      options[key] = current[key]
    }
    if deviceType == "fincm3" {
      var overlays = (options["dtoverlay"]?.list ?? []).filter { !$0.isEmpty }
      if !overlays.contains("balena-fin") { overlays.append("balena-fin") }
      options["dtoverlay"] = .list(overlays)
    }
    return BootTarget(ConfigText.normalised(options), problems: problems.sorted())
  }

  private static func isSafe(_ key: String) -> Bool {
    BootText.isLine(key) && !key.contains("=") && key.trimmed.first != "#" && key.trimmed.first != "["
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    let text = try BootText.read(path) ?? ""
    try await BootText.write(ConfigText(parsing: text).setting(options).text, over: text, to: path)
  }
}

/// extlinux.conf (host 4.3).
public final class ExtlinuxBackEnd: BootBackEnd {
  public let name = "extlinux"
  private let path: String

  init(path: String) { self.path = path }

  /// - Parameter release: `META_BALENA_VERSION`.
  static func matches(_ type: String, release: String?) -> Bool {
    guard type.hasPrefix("jetson-"), let release else { return false }
    let numbers = release.split(separator: "+")[0].split(separator: "-")[0].split(separator: ".").map {
      Int($0)
    }
    guard numbers.count >= 3, let major = numbers[0], let minor = numbers[1], numbers[2] != nil else {
      return false
    }
    let isPrerelease = release.split(separator: "+")[0].contains("-")
    // 2.47.0-rc1 comes before 2.47.0.
    return (major, minor) < (2, 47) || (major, minor, numbers[2]) == (2, 47, 0) && isPrerelease
  }

  public func option(for variable: String) -> String? { ExtlinuxVariables.option(for: variable) }
  public func variable(for option: String) -> String { ExtlinuxVariables.prefix + option }

  public func read() throws(BootError) -> BootOptions { try file().options() }

  private func file() throws(BootError) -> Extlinux {
    guard let text = try BootText.read(path) else {
      throw BootError("Could not find extlinux file. Device is possibly bricked")
    }
    return Extlinux(parsing: text)
  }

  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    ExtlinuxVariables.normalised(target, current: current)
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    let file = try file()
    try await BootText.write(try file.setting(options).text, over: file.text, to: path)
  }
}

/// extra_uEnv.txt (host 4.4).
public final class ExtraUEnvBackEnd: BootBackEnd {
  public let name = "extra_uEnv"
  private let path: String
  private let logger: Logger

  init(path: String, logger: Logger) {
    self.path = path
    self.logger = logger
  }

  static func matches(_ type: String) -> Bool {
    ["-nano", "-nano-emmc", "-nano-2gb-devkit", "-tx2"].contains { type.hasSuffix($0) }
      || [
        "-tx2-nx", "-agx-orin-", "-orin-nx-", "-orin-nano-", "imx8mm-var-som", "imx8m-var-dart",
        "imx8mm-var-dart",
      ].contains { type.range(of: $0) != nil }
      || ["iot-gate-imx8plus", "iot-gate-imx8plus-d1d8"].contains(type)
  }

  public func option(for variable: String) -> String? { ExtlinuxVariables.option(for: variable) }
  public func variable(for option: String) -> String { ExtlinuxVariables.prefix + option }

  public func read() throws(BootError) -> BootOptions {
    let file = try file()
    for line in file.unknownLines { logger.warning("Could not read extra_uEnv entry: \(line)") }
    return file.options
  }

  private func file() throws(BootError) -> ExtraUEnv {
    guard let text = try BootText.read(path) else {
      logger.error("Unable to read extra_uEnv file at: \(path)")
      throw BootError("Could not find extra_uEnv file. Device is possibly bricked")
    }
    return ExtraUEnv(parsing: text)
  }

  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    ExtlinuxVariables.normalised(target, current: current)
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    let file = try file()
    try await BootText.write(file.setting(options).text, over: file.text, to: path)
  }
}

/// What extlinux.conf and extra_uEnv.txt have in common: variables and the two options.
nonisolated enum ExtlinuxVariables {
  static let prefix = "HOST_EXTLINUX_"

  static func option(for variable: String) -> String? {
    guard variable.hasPrefix(prefix), variable.count > prefix.count else { return nil }
    return String(variable.dropFirst(prefix.count))
  }

  static func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    var problems: [String] = []
    for key in target.keys.sorted() where !Extlinux.managed.contains(key) {
      problems.append("Attempt to change blacklisted config value \(key)")
    }
    var options = Extlinux.normalised(target)
    for (key, value) in options {
      let text = value.list.first ?? ""
      let isWord = key != "isolcpus" || !text.contains { $0.isWhitespace || $0 == "=" }
      guard !BootText.isLine(text) || !isWord || text != text.trimmed else { continue }
      problems.append(
        "One of the values being set contains an invalid character: [ value: \(text), key: \(key) ]")
      options[key] = current[key]
    }
    return BootTarget(options, problems: problems)
  }
}

/// Text files of the boot partition.
nonisolated enum BootText {
  /// nil for a file that does not exist.
  static func read(_ path: String) throws(BootError) -> String? {
    do throws(FileError) { return ByteText.decode(try BootFile.read(path)) } catch {
      if error.code == ENOENT { return nil }
      throw BootError(error.message)
    }
  }

  static func write(_ text: String, over old: String, to path: String) async throws(BootError) {
    guard text != old else { return }
    do throws(FileError) { try await BootFile.write(ByteText.encode(text), to: path) } catch {
      throw BootError("Write failed with error: \(error.message)")
    }
  }

  /// One line that reads back as it is written.
  static func isLine(_ text: String) -> Bool {
    !text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\t" || $0.value == 0x7F }
      && ByteText.decode(ByteText.encode(text)) == text
  }
}
