public import Database
import EventLoop
import JSON
import Logging
public import SystemBus

/// Brings the device's configuration to the target: the agent's settings, the VPN, the boot
/// configuration, in this order (host 3.4, 3.5).
///
/// It works when there is something to compare: after start, after a new target, and some time after a
/// failure. A part that fails is reported and tried again later; it holds up neither the others nor the
/// services.
public final class DeviceConfigurator {
  /// After a failure; a failing part is not hammered.
  public static let retryDelay = Duration.seconds(60)
  /// Between two tries to switch the VPN, which belongs to the host.
  public static let vpnRetryDelay = Duration.seconds(3600)
  public static let vpnUnit = "openvpn.service"

  private let settings: Settings
  private let store: Store
  private let boot: BootConfiguration
  private let systemd: SystemdManager
  private let report: (DeviceEvent, String) -> Void
  /// Marks that a reboot is needed; the argument is for people.
  private let rebootMarker: RebootMarker
  private let scheduleReboot: (JSON) -> Void
  private let wake: () -> Void

  private var isDue = true
  private var isInitial = true
  private var retryTimer: LoopTimer?
  private var knownProblem: String?
  private var vpnRetryAt: MonotonicTime?

  /// - Parameter wake: asks for another call of `apply`.
  public init(
    settings: Settings, store: Store, boot: BootConfiguration, systemd: SystemdManager,
    rebootMarker: RebootMarker, report: @escaping (DeviceEvent, String) -> Void,
    scheduleReboot: @escaping (JSON) -> Void,
    wake: @escaping () -> Void
  ) {
    self.settings = settings
    self.store = store
    self.boot = boot
    self.systemd = systemd
    self.report = report
    self.rebootMarker = rebootMarker
    self.scheduleReboot = scheduleReboot
    self.wake = wake
  }

  // MARK: Target

  /// Before the first target of a device, what it is set to becomes its target: an empty one would wipe
  /// the boot configuration (host 3.7).
  public func saveInitialConfiguration() throws(DatabaseError) {
    guard !settings.bool(.initialConfigSaved) else { return }
    let current = settings.currentVariables
    var snapshot = boot.currentVariables()
    for variable in DeviceVariable.table where variable.name != DeviceVariable.localMode {
      if let text = current[variable.name], !text.isEmpty, !variable.isEqual(text, variable.defaultText) {
        snapshot[variable.name] = text
      }
    }
    let stored = try store.targets.deviceConfig()
    try store.targets.setDeviceConfig(snapshot.merging(stored) { _, stored in stored })
    do throws(SettingError) { try settings.set([.initialConfigSaved: true]) } catch {
      report(.configError, "Error applying configuration change: \(error.description)")
    }
  }

  private var hasTarget: Bool {
    do throws(DatabaseError) { return try store.targets.isSet() } catch { return false }
  }

  /// Whether a fleet that the device joins does not know yet how it is set: until then its target takes
  /// nothing away from the boot configuration.
  private var isJoining: Bool {
    !settings.isUnmanaged
      && settings.string(.initialConfigReported) ?? "" != settings.string(.apiEndpoint) ?? ""
  }

  /// The cloud was told how the device is set: from now on that is part of its target, whose next version
  /// may come much later.
  public func noteReported() {
    guard hasTarget, !isJoining else { return }
    do throws(DatabaseError) {
      let stored = try store.targets.deviceConfig()
      let merged = boot.currentVariables().merging(stored) { _, stored in stored }
      if merged != stored { try store.targets.setDeviceConfig(merged) }
    } catch {
      report(.configError, "Error applying configuration change: \(error)")
    }
    noteTarget()
  }

  private func target() throws(DatabaseError) -> [String: String] {
    DeviceConfiguration.effectiveTarget(
      try store.targets.deviceConfig(), isUnmanaged: settings.isUnmanaged, isInitialApply: isInitial)
  }

  // MARK: Applying

  /// For the case that the last change got no further than the database.
  public func start() { if hasTarget { noteTarget() } }

  /// A target was stored: the agent's settings take effect at once, the rest with the next `apply`.
  public func noteTarget() {
    isDue = true
    vpnRetryAt = nil
    do throws(DatabaseError) { applySettings(try target()) } catch {
      report(.configError, "Error applying configuration change: \(error)")
    }
  }

  /// Compares, and applies what differs. Without anything new, or any target, it returns at once.
  public func apply() async {
    guard isDue, hasTarget else { return }
    isDue = false
    var hasFailed = false
    do throws(DatabaseError) {
      let wanted = try target()
      if !applySettings(wanted) { hasFailed = true }
      if !settings.isUnmanaged, await !applyVPN(wanted[DeviceVariable.vpnControl] ?? "true") {
        hasFailed = true
      }
      if isInitial { await boot.prepare() }
      let kept = isJoining ? boot.currentVariables() : [:]
      if await !applyBoot(kept.merging(wanted) { _, wanted in wanted }) { hasFailed = true }
    } catch {
      report(.configError, "Error applying configuration change: \(error)")
      hasFailed = true
    }
    isInitial = false
    if hasFailed { retryLater() }
  }

  private func retryLater() {
    if let retryTimer { return retryTimer.restart(after: Self.retryDelay) }
    retryTimer = EventLoop.shared.schedule(after: Self.retryDelay, tolerance: .seconds(10)) {
      [weak self] in
      self?.isDue = true
      self?.wake()
    }
  }

  /// - Returns: false when they could not be written.
  @discardableResult
  private func applySettings(_ wanted: [String: String]) -> Bool {
    let change = DeviceConfiguration.change(from: settings.currentVariables, to: wanted)
    for warning in change.warnings { report(.invalidConfig, warning) }
    guard !change.isEmpty else { return true }
    let text = JSON(change.variables)
    let wasScheduled = rebootMarker.isPresent
    if !change.rebooting.isEmpty {
      var object = JSONObject()
      for (key, value) in change.rebooting { object[key.name] = .string(value) }
      scheduleReboot(.object(object))
    }
    report(.config, "Applying configuration change \(text)")
    do throws(SettingError) {
      try settings.apply(change)
      report(.configApplied, "Applied configuration change \(text)")
      return true
    } catch {
      report(.configError, "Error applying configuration change: \(error.description)")
      if !wasScheduled { rebootMarker.remove() }
      return false
    }
  }

  /// - Returns: false when the bus or the unit fails.
  private func applyVPN(_ text: String) async -> Bool {
    // An unrecognised text is no reason to cut the device off.
    let isWanted = SettingRule.truth(of: text) ?? true
    if let vpnRetryAt, MonotonicTime.read() < vpnRetryAt { return true }
    let line: JSON = [DeviceVariable.vpnControl: .string(isWanted ? "true" : "false")]
    do throws(BusError) {
      guard let state = try await systemd.activeState(of: Self.vpnUnit) else { return true }
      let isOn = state != "inactive" && state != "deactivating"
      guard isOn != isWanted else {
        knownProblem = nil
        return true
      }
      vpnRetryAt = MonotonicTime.read() + Self.vpnRetryDelay
      if !isInitial { report(.config, "Applying configuration change \(line)") }
      let outcome = try await systemd.run(isWanted ? .start : .stop, Self.vpnUnit)
      switch outcome {
      case .done, .unitMissing:
        vpnRetryAt = nil
        knownProblem = nil
        if !isInitial { report(.configApplied, "Applied configuration change \(line)") }
        return true
      case .failed(let result):
        reportVPN("\(Self.vpnUnit): \(result)")
      case .unfinished(let state):
        reportVPN("\(Self.vpnUnit) is still \(state)")
      }
    } catch {
      reportVPN("\(error)")
    }
    return false
  }

  /// What stays the same from try to try is said once.
  private func reportVPN(_ problem: String) {
    guard problem != knownProblem else { return }
    knownProblem = problem
    report(.configError, "Error applying configuration change: \(problem)")
  }

  /// One back end after the other. The reboot stands on the disk before the change does: a crash in between
  /// must not lose it. A change that cannot be written is no reason for one.
  ///
  /// - Returns: false when one could not be written.
  private func applyBoot(_ wanted: [String: String]) async -> Bool {
    let changes = boot.changes(for: wanted)
    let wasScheduled = rebootMarker.isPresent
    if changes.contains(where: \.needsReboot) { scheduleReboot([:]) }
    var isComplete = true
    var isRebootDue = false
    for change in changes {
      do throws(BootError) {
        try await boot.apply(change)
        if change.needsReboot { isRebootDue = true }
      } catch {
        isComplete = false
      }
    }
    if !isRebootDue, !wasScheduled, changes.contains(where: \.needsReboot) { rebootMarker.remove() }
    return isComplete
  }
}
