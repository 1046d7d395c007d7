import EventLoop
import JSON
import SystemBus

/// Starts and stops the VPN's unit, in the background: a unit that hangs holds up nothing else.
///
/// What could not be done is done later, by a timer of its own: the bus is asked again with a growing
/// delay, and a unit whose job has failed, which is the host's, after `jobRetryDelay`. The last request
/// counts.
final class VPNSwitch {
  /// After the first failure to ask the bus; twice as long each time, up to `jobRetryDelay`.
  static let firstRetryDelay = Duration.seconds(60)
  static let jobRetryDelay = Duration.seconds(3600)
  static let unit = "openvpn.service"

  /// What is asked of the service manager.
  struct Unit {
    /// nil when the host has no such unit.
    var activeState: () async throws(BusError) -> String?
    var run: (SystemdManager.Verb) async throws(BusError) -> SystemdManager.Outcome
  }

  private let unit: Unit
  private let firstRetryDelay: Duration
  private let jobRetryDelay: Duration
  private let report: (DeviceEvent, String) -> Void

  private var wanted: Bool?
  /// Said only when it fails.
  private var isQuiet = false
  private var isDue = false
  private var isAtWork = false
  private var failures = 0
  private var retryTimer: LoopTimer?
  private var knownProblem: String?

  init(
    _ unit: Unit, firstRetryDelay: Duration = VPNSwitch.firstRetryDelay,
    jobRetryDelay: Duration = VPNSwitch.jobRetryDelay, report: @escaping (DeviceEvent, String) -> Void
  ) {
    self.unit = unit
    self.firstRetryDelay = firstRetryDelay
    self.jobRetryDelay = jobRetryDelay
    self.report = report
  }

  convenience init(_ systemd: SystemdManager, report: @escaping (DeviceEvent, String) -> Void) {
    let unit = Unit(
      activeState: { () async throws(BusError) in try await systemd.activeState(of: Self.unit) },
      run: { (verb) async throws(BusError) in try await systemd.run(verb, Self.unit) })
    self.init(unit, report: report)
  }

  /// Looks at the unit at once, whatever failed before.
  ///
  /// - Parameter isWanted: nil leaves the unit alone.
  func set(_ isWanted: Bool?, isQuiet: Bool = false) {
    wanted = isWanted
    self.isQuiet = isQuiet
    failures = 0
    lookAgain()
  }

  private func lookAgain() {
    retryTimer?.cancel()
    isDue = true
    guard !isAtWork else { return }
    isAtWork = true
    Task {
      while isDue, let wanted {
        isDue = false
        await bring(to: wanted)
      }
      isAtWork = false
    }
  }

  private func bring(to isWanted: Bool) async {
    let line: JSON = [DeviceVariable.vpnControl: .string(isWanted ? "true" : "false")]
    let isQuiet = isQuiet
    do throws(BusError) {
      guard let state = try await unit.activeState() else { return noteSuccess() }
      let isOn = state != "inactive" && state != "deactivating"
      guard isOn != isWanted else { return noteSuccess() }
      if !isQuiet { report(.config, "Applying configuration change \(line)") }
      switch try await unit.run(isWanted ? .start : .stop) {
      case .done, .unitMissing:
        if !isQuiet { report(.configApplied, "Applied configuration change \(line)") }
        noteSuccess()
      case .failed(let result): noteFailure("\(Self.unit): \(result)", retryAfter: jobRetryDelay)
      case .unfinished(let state):
        noteFailure("\(Self.unit) is still \(state)", retryAfter: jobRetryDelay)
      }
    } catch {
      noteFailure("\(error)", retryAfter: firstRetryDelay * (1 << min(failures, 16)))
    }
  }

  private func noteSuccess() {
    failures = 0
    knownProblem = nil
  }

  /// What stays the same from try to try is said once.
  private func noteFailure(_ problem: String, retryAfter delay: Duration) {
    failures += 1
    if problem != knownProblem { report(.configError, "Error applying configuration change: \(problem)") }
    knownProblem = problem
    guard !isDue else { return }
    let delay = min(delay, jobRetryDelay)
    if let retryTimer { return retryTimer.restart(after: delay) }
    retryTimer = EventLoop.shared.schedule(after: delay, tolerance: delay / 6) { [weak self] in
      self?.lookAgain()
    }
  }
}
