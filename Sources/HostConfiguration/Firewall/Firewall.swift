import CSystemd
import EventLoop
import Glibc
public import Logging

/// Puts `FirewallRules` into the kernel: for each family one look (iptables-save) and one
/// transaction (iptables-restore), and nothing at all while the rules stay the same.
///
/// The families are independent: a kernel without IPv6 costs IPv6 only. Changes that come while one is
/// being made are made after it, the last one only.
public final class Firewall {
  private static let directories = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"]
  private static let timeout = Duration.seconds(30)
  /// Seconds that the tools wait for others who change the tables.
  private static let lockWait = "10"
  private static let savedLimitBytes = 4 << 20

  private let logger: Logger
  private var wanted: FirewallRules?
  private var applied: [FirewallRules.Family: FirewallRules] = [:]
  private var isApplying = false
  private var lastProblem: [FirewallRules.Family: String] = [:]

  public init(logger: Logger) { self.logger = logger }

  /// The mode of a setting; an unknown one is `off`, with a warning.
  public static func mode(_ text: String?, logger: Logger) -> FirewallRules.Mode {
    if let mode = text.flatMap(FirewallRules.Mode.init) { return mode }
    if let text, !text.isEmpty {
      logger.warning("Invalid firewall mode: \(text). Reverting to state: off")
    }
    return .off
  }

  /// Returns when the rules, or later ones, are in place or have failed.
  ///
  /// - Parameter again: also when nothing has changed; others may have emptied the tables.
  public func apply(_ rules: FirewallRules, again: Bool = false) async {
    if again { applied = [:] }
    wanted = rules
    guard !isApplying else { return }
    isApplying = true
    while let next = wanted {
      wanted = nil
      for family in FirewallRules.Family.allCases where applied[family] != next { await apply(next, family) }
    }
    isApplying = false
  }

  private func apply(_ rules: FirewallRules, _ family: FirewallRules.Family) async {
    if let problem = await change(rules, family) {
      applied[family] = nil
      // IPv6 that is not there is no fault.
      let level: Logger.Level = family == .v6 ? .debug : .error
      if lastProblem[family] != problem {
        logger.log(level: level, "Firewall mode not applied due to error: \(problem)")
      }
      lastProblem[family] = problem
    } else {
      applied[family] = rules
      lastProblem[family] = nil
      logger.info("Applied firewall mode \(rules.mode.rawValue) (\(family == .v4 ? "IPv4" : "IPv6"))")
    }
  }

  /// - Returns: what went wrong.
  private func change(_ rules: FirewallRules, _ family: FirewallRules.Family) async -> String? {
    let name = family == .v4 ? "iptables" : "ip6tables"
    guard let save = Self.program("\(name)-save"), let restore = Self.program("\(name)-restore") else {
      return "\(name) is not installed"
    }
    do throws(SystemError) {
      let saved = try await ChildProcess.run(
        save, ["-t", "filter"], outputLimitBytes: Self.savedLimitBytes, timeout: Self.timeout)
      guard saved.isSuccess else { return Self.problem(save, saved) }
      let present = FirewallRules.Present(parsing: String(decoding: saved.output, as: UTF8.self))
      let payload = Array(rules.payload(family, present: present).utf8)
      // A file without a name: the child opens it over ours.
      let descriptor = csystemd_memory_file("firewall")
      guard descriptor >= 0 else { return "no memory file: \(String(cString: strerror(errno)))" }
      defer { close(descriptor) }
      guard payload.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == payload.count else {
        return "no memory: \(String(cString: strerror(errno)))"
      }
      let done = try await ChildProcess.run(
        restore, ["--noflush", "--wait", Self.lockWait, "/proc/\(getpid())/fd/\(descriptor)"],
        timeout: Self.timeout)
      return done.isSuccess ? nil : Self.problem(restore, done)
    } catch {
      return "\(error)"
    }
  }

  private static func program(_ name: String) -> String? {
    directories.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  private static func problem(_ program: String, _ outcome: ChildProcess.Outcome) -> String {
    if outcome.hasTimedOut { return "\(program) did not end in time" }
    let text = String(decoding: outcome.errorOutput.suffix(500), as: UTF8.self).trimmed
    return "\(program): \(text.replacing("\n", with: " "))"
  }
}
