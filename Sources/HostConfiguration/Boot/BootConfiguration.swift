import Glibc
import JSON
public import Logging

/// The back ends of this device, in their order: what they are set to, and what a target changes
/// (host 4.1).
///
/// A target that a back end takes but never shows again would reboot the device for ever; so tries of
/// one and the same change are counted over reboots, in a file beside the database, and after
/// `triesPerChange` it is reported and left alone.
public final class BootConfiguration {
  public static let triesPerChange = 3

  private let paths: HostPaths
  private let facts: HostFacts
  private let settings: Settings
  private let logger: Logger
  private let report: (DeviceEvent, String) -> Void
  private var backEnds: [any BootBackEnd]?
  private var lastProblems: [String: [String]] = [:]
  private lazy var tries = loadTries()

  /// - Parameter report: takes a line for the user.
  public init(
    paths: HostPaths, facts: HostFacts, settings: Settings, logger: Logger,
    report: @escaping (DeviceEvent, String) -> Void
  ) {
    self.paths = paths
    self.facts = facts
    self.settings = settings
    self.logger = logger
    self.report = report
  }

  /// What a target changes of one back end.
  public struct Change {
    let backEnd: any BootBackEnd
    let current: BootOptions
    let target: BootOptions
    public var needsReboot: Bool { backEnd.needsReboot(from: current, to: target) }
  }

  /// By the device's type, once it is known.
  private func matching() -> [any BootBackEnd] {
    if let backEnds { return backEnds }
    let type = facts.deviceType
    var found: [any BootBackEnd] = []
    if ExtlinuxBackEnd.matches(type, release: facts.osRelease?["META_BALENA_VERSION"]) {
      found.append(ExtlinuxBackEnd(path: paths.extlinux))
    }
    if ExtraUEnvBackEnd.matches(type), access(paths.extraUEnv, F_OK) == 0 {
      found.append(ExtraUEnvBackEnd(path: paths.extraUEnv, logger: logger))
    }
    if ConfigTextBackEnd.matches(type) {
      found.append(ConfigTextBackEnd(path: paths.configText, deviceType: type, logger: logger))
    }
    if type == "up-board" {
      found.append(
        ConfigFSBackEnd(paths: paths, logger: logger) { [report] text, _ in report(.loadAMLError, text) })
    }
    if type.hasSuffix("-tx2") {
      found.append(
        ODMDataBackEnd(
          device: paths.odmData, readOnlySwitch: paths.odmDataReadOnlySwitch, logger: logger
        ) { [report] text in report(.bootConfigError, text) })
    }
    found.append(SplashBackEnd(directory: paths.splash, logger: logger))
    if type.range(of: "-orin-") != nil { found.append(PowerFanBackEnd(settings: settings, logger: logger)) }
    if type != HostFacts.unknown { backEnds = found }
    return found
  }

  /// Once, before the first change.
  public func prepare() async { for backEnd in matching() { await backEnd.prepare() } }

  /// Variables as the device has them now; a back end that cannot be read has none, and says so.
  public func currentVariables() -> [String: String] {
    var variables: [String: String] = [:]
    for backEnd in matching() {
      guard let options = read(backEnd) else { continue }
      variables.merge(backEnd.variables(options)) { _, later in later }
    }
    return variables
  }

  private func read(_ backEnd: any BootBackEnd) -> BootOptions? {
    do throws(BootError) { return try backEnd.read() } catch {
      note([error.message], of: "\(backEnd.name) read")
      return nil
    }
  }

  /// What has to be written; back ends whose change was tried too often are left out.
  ///
  /// - Parameter target: bare names of all variables of the target.
  public func changes(for target: [String: String]) async -> [Change] {
    var changes: [Change] = []
    var hasForgotten = false
    for backEnd in matching() {
      guard let current = read(backEnd) else { continue }
      let wanted = backEnd.target(target, current: current)
      note(wanted.problems, of: backEnd.name)
      guard wanted.options != current else {
        if forgetTries(of: backEnd) { hasForgotten = true }
        continue
      }
      let change = Change(backEnd: backEnd, current: current, target: wanted.options)
      let count = tries[backEnd.name]?.key == key(of: change) ? tries[backEnd.name]?.count ?? 0 : 0
      if count >= Self.triesPerChange {
        note(
          [
            "\(backEnd.name) does not take \(Self.text(wanted.options, backEnd)): given up after \(count) tries"
          ],
          of: "\(backEnd.name) tries")
      } else {
        changes.append(change)
      }
    }
    if hasForgotten { await storeTries() }
    return changes
  }

  /// Each problem is said when it comes up, and not again at every look.
  private func note(_ problems: [String], of subject: String) {
    guard lastProblems[subject] ?? [] != problems else { return }
    lastProblems[subject] = problems
    for problem in problems { report(.bootConfigError, problem) }
  }

  private static func text(_ options: BootOptions, _ backEnd: any BootBackEnd) -> JSON {
    var object = JSONObject()
    for (option, value) in options.sorted(by: { $0.key < $1.key }) {
      switch value {
      // An image has no place in a log.
      case .text(let text): object[option] = .string(text.count > 200 ? "\(text.prefix(64))…" : text)
      case .list(let items): object[option] = JSON(items)
      }
    }
    return .object(object)
  }

  public func apply(_ change: Change) async throws(BootError) {
    let backEnd = change.backEnd
    report(.bootConfig, "Applying boot config: \(Self.text(change.target, backEnd))")
    // Before the write, which a crash may end; one that did not take place is no try.
    let earlier = tries[backEnd.name]
    await count(change)
    do throws(BootError) {
      try await backEnd.write(change.target)
      report(.bootConfigApplied, "Applied boot config: \(Self.text(change.target, backEnd))")
    } catch {
      tries[backEnd.name] = earlier
      await storeTries()
      report(.bootConfigError, "Error setting boot config: \(error)")
      throw error
    }
  }

  // MARK: Tries

  private struct Tries {
    var key: String
    var count: Int
  }

  private var triesPath: String { DurableFile.directory(of: paths.database) + "/boot-config-tries.json" }

  private func key(of change: Change) -> String {
    let text = "\(Self.key(change.current)) -> \(Self.key(change.target))"
    return MD5.hexadecimal(Array(text.utf8))
  }

  private static func key(_ options: BootOptions) -> String {
    options.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.variableText)" }.joined(separator: "\n")
  }

  private func count(_ change: Change) async {
    let key = key(of: change)
    let known = tries[change.backEnd.name]
    tries[change.backEnd.name] = Tries(key: key, count: known?.key == key ? (known?.count ?? 0) + 1 : 1)
    await storeTries()
  }

  /// - Returns: whether there were any.
  private func forgetTries(of backEnd: any BootBackEnd) -> Bool {
    lastProblems["\(backEnd.name) tries"] = nil
    return tries.removeValue(forKey: backEnd.name) != nil
  }

  private func loadTries() -> [String: Tries] {
    guard let content = try? DurableFile.read(triesPath), let json = try? JSON(parsing: content) else {
      return [:]
    }
    var found: [String: Tries] = [:]
    for (name, value) in json.objectValue ?? [:] {
      if let key = value["key"]?.stringValue, let count = value["count"]?.intValue {
        found[name] = Tries(key: key, count: count)
      }
    }
    return found
  }

  private func storeTries() async {
    var object = JSONObject()
    for (name, entry) in tries.sorted(by: { $0.key < $1.key }) {
      object[name] = ["key": .string(entry.key), "count": .int(entry.count)]
    }
    let content = JSON.object(object).bytes()
    do throws(FileError) { try await DurableFile.writeInTurns(content, to: triesPath) } catch {
      logger.warning("Tries of boot configurations are not kept: \(error)")
    }
  }
}

/// What the user reads of the device's configuration (host 3.5; names of state-engine 9).
public nonisolated enum DeviceEvent: String, Sendable {
  case config = "Apply config change in progress"
  case configApplied = "Apply config change success"
  case configError = "Apply config change error"
  case invalidConfig = "invalidDeviceConfig"
  case bootConfig = "Apply boot config in progress"
  case bootConfigApplied = "Apply boot config success"
  case bootConfigError = "Apply boot config error"
  case loadAMLError = "Load AML error"
  case firewallError = "Apply firewall mode error"
  case rebootScheduled = "Reboot scheduled"

  public var isError: Bool {
    switch self {
    case .configError, .bootConfigError, .loadAMLError, .firewallError: true
    default: false
    }
  }
}
