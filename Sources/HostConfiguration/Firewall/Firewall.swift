import CSystemd
import EventLoop
import Glibc
public import Logging

/// Puts `FirewallRules` into the kernel: for each family one look (iptables-save) and one
/// transaction (iptables-restore), and nothing at all while the rules stay the same.
///
/// The families are independent: a kernel without IPv6 has no rules of it, and a failure of one costs that
/// one only; it is told, and tried again with a growing delay. Changes that come while one is being made
/// are made after it, the last one only.
public final class Firewall {
  /// Where a host has its tools, and what tells whether its kernel speaks IPv6.
  struct Places {
    var directories = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"]
    var ipv6 = "/proc/net/if_inet6"
    /// There once the kernel can filter IPv6.
    var ipv6Tables = "/proc/net/ip6_tables_names"
    var modprobe = KernelModule.modprobe
    /// Where the modules of the running kernel are.
    var hostRoot = "/"
  }

  private static let timeout = Duration.seconds(30)
  /// Seconds that the tools wait for others who change the tables.
  private static let lockWait = "10"
  private static let savedLimitBytes = 4 << 20
  /// After the first failure; twice as long each time.
  private static let firstRetryDelay = Duration.seconds(30)
  private static let longestRetryDelay = Duration.seconds(3600)

  private let logger: Logger
  private let places: Places
  private let firstRetryDelay: Duration
  private let report: (String) -> Void

  /// What was asked for last, and whether it is still to be done.
  private var asked: FirewallRules?
  private var isDue = false
  private var applied: [FirewallRules.Family: FirewallRules] = [:]
  private var isApplying = false
  private var lastProblem: [FirewallRules.Family: String] = [:]
  private var failures = 0
  private var retryTimer: LoopTimer?
  private var hasTriedIPv4 = false
  private var hasLoadedIPv6Tables = false
  private var waiter: CheckedContinuation<Void, Never>?

  /// - Parameter report: takes a line for the user when the rules cannot be applied.
  public convenience init(hostRoot: String, logger: Logger, report: @escaping (String) -> Void) {
    self.init(
      logger: logger, places: Places(hostRoot: hostRoot), firstRetryDelay: Self.firstRetryDelay,
      report: report)
  }

  init(
    logger: Logger, places: Places, firstRetryDelay: Duration, report: @escaping (String) -> Void
  ) {
    self.logger = logger
    self.places = places
    self.firstRetryDelay = firstRetryDelay
    self.report = report
  }

  /// The mode of a setting; an unknown one is `off`, with a warning.
  public static func mode(_ text: String?, logger: Logger) -> FirewallRules.Mode {
    if let mode = text.flatMap(FirewallRules.Mode.init) { return mode }
    if let text, !text.isEmpty {
      logger.warning("Invalid firewall mode: \(text). Reverting to state: off")
    }
    return .off
  }

  /// In the background; of several requests the last one counts.
  public func apply(_ rules: FirewallRules) {
    asked = rules
    failures = 0
    applyAgain()
  }

  /// Returns when the rules of IPv4 were applied, or failed, for the first time; at the latest after `limit`.
  public func firstTry(within limit: Duration) async {
    guard !hasTriedIPv4, waiter == nil else { return }
    let timer = EventLoop.shared.schedule(after: limit) { [weak self] in self?.endWait() }
    await withCheckedContinuation { waiter = $0 }
    timer.cancel()
  }

  private func endWait() { waiter.take()?.resume() }

  private func applyAgain() {
    retryTimer?.cancel()
    isDue = true
    guard !isApplying else { return }
    isApplying = true
    Task {
      var isComplete = true
      while isDue, let rules = asked {
        isDue = false
        isComplete = true
        for family in FirewallRules.Family.allCases where applied[family] != rules {
          if await !apply(rules, family) { isComplete = false }
          if family == .v4 {
            hasTriedIPv4 = true
            endWait()
          }
        }
      }
      isApplying = false
      if isComplete { failures = 0 } else { retryLater() }
    }
  }

  private func retryLater() {
    let delay = min(firstRetryDelay * (1 << min(failures, 16)), Self.longestRetryDelay)
    failures += 1
    if let retryTimer { return retryTimer.restart(after: delay) }
    retryTimer = EventLoop.shared.schedule(after: delay, tolerance: delay / 6) { [weak self] in
      self?.applyAgain()
    }
  }

  /// - Returns: false when it has to be tried again.
  private func apply(_ rules: FirewallRules, _ family: FirewallRules.Family) async -> Bool {
    if family == .v6, access(places.ipv6, F_OK) != 0 {
      logger.debug("Without IPv6 there are no firewall rules of it")
      applied[family] = rules
      return true
    }
    if family == .v6 { await loadIPv6Tables() }
    if let problem = await change(rules, family) {
      applied[family] = nil
      if lastProblem[family] != problem { report("Firewall mode not applied due to error: \(problem)") }
      lastProblem[family] = problem
      return false
    }
    applied[family] = rules
    lastProblem[family] = nil
    logger.info("Applied firewall mode \(rules.mode.rawValue) (\(family == .v4 ? "IPv4" : "IPv6"))")
    return true
  }

  /// Once (host 1.4). A kernel that has the tables built in, or not at all, is no fault: what the tools say then counts.
  private func loadIPv6Tables() async {
    guard !hasLoadedIPv6Tables, access(places.ipv6Tables, F_OK) != 0 else { return }
    hasLoadedIPv6Tables = true
    do throws(SystemError) {
      let outcome = try await KernelModule.load(
        "ip6_tables", hostRoot: places.hostRoot, modprobe: places.modprobe)
      if !outcome.isSuccess { logger.debug("\(Self.problem(places.modprobe, outcome))") }
    } catch {
      logger.debug("Without \(places.modprobe) no module is loaded: \(error)")
    }
  }

  /// - Returns: what went wrong.
  private func change(_ rules: FirewallRules, _ family: FirewallRules.Family) async -> String? {
    let name = family == .v4 ? "iptables" : "ip6tables"
    guard let save = program("\(name)-save"), let restore = program("\(name)-restore") else {
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

  private func program(_ name: String) -> String? {
    places.directories.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  private static func problem(_ program: String, _ outcome: ChildProcess.Outcome) -> String {
    if outcome.hasTimedOut { return "\(program) did not end in time" }
    let text = String(decoding: outcome.errorOutput.suffix(500), as: UTF8.self).trimmed
    return "\(program): \(text.replacing("\n", with: " "))"
  }
}
