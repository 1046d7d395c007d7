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
/// services. Only the files of the boot configuration are waited for: a reboot that they need stands before
/// the services are planned. The VPN's unit may take its time (`VPNSwitch`).
public final class DeviceConfigurator {
  /// After the first failure; twice as long each time, so that a failing part is not hammered.
  static let firstRetryDelay = Duration.seconds(60)
  static let longestRetryDelay = Duration.seconds(3600)
  public static let vpnUnit = VPNSwitch.unit

  private let settings: Settings
  private let store: Store
  private let boot: BootConfiguration
  private let vpn: VPNSwitch
  private let report: (DeviceEvent, String) -> Void
  /// Marks that a reboot is needed; the argument is for people.
  private let rebootMarker: RebootMarker
  private let scheduleReboot: (JSON) -> Void
  private let wake: () -> Void

  private let settingsTurns = TurnQueue()
  private var isDue = true
  private var isVPNDue = true
  private var isInitial = true
  private var failures = 0
  private var retryTimer: LoopTimer?

  /// - Parameter wake: asks for another call of `apply`.
  public convenience init(
    settings: Settings, store: Store, boot: BootConfiguration, systemd: SystemdManager,
    rebootMarker: RebootMarker, report: @escaping (DeviceEvent, String) -> Void,
    scheduleReboot: @escaping (JSON) -> Void,
    wake: @escaping () -> Void
  ) {
    self.init(
      settings: settings, store: store, boot: boot, vpn: VPNSwitch(systemd, report: report),
      rebootMarker: rebootMarker, report: report, scheduleReboot: scheduleReboot, wake: wake)
  }

  init(
    settings: Settings, store: Store, boot: BootConfiguration, vpn: VPNSwitch,
    rebootMarker: RebootMarker, report: @escaping (DeviceEvent, String) -> Void,
    scheduleReboot: @escaping (JSON) -> Void,
    wake: @escaping () -> Void
  ) {
    self.settings = settings
    self.store = store
    self.boot = boot
    self.vpn = vpn
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
    do throws(SettingError) { try settings.setRows([.initialConfigSaved: true]) } catch {
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
      try store.targets.deviceConfig(), isUnmanaged: settings.isUnmanaged)
  }

  // MARK: Applying

  /// For the case that the last change got no further than the database.
  public func start() { if hasTarget { noteTarget() } }

  /// A target was stored: the agent's settings take effect at once, the rest with the next `apply`.
  public func noteTarget() {
    isDue = true
    failures = 0
    isVPNDue = true
    // What is in the database has changed when this returns; config.json follows.
    Task.immediate { await applySettings() }
  }

  /// Compares, and applies what differs. Without anything new, or any target, it returns at once.
  public func apply() async {
    guard isDue, hasTarget else { return }
    isDue = false
    var hasFailed = false
    do throws(DatabaseError) {
      let wanted = try target()
      if await !applySettings() { hasFailed = true }
      applyVPN(wanted)
      if isInitial { await boot.prepare() }
      let kept = isJoining ? boot.currentVariables() : [:]
      if await !applyBoot(kept.merging(wanted) { _, wanted in wanted }) { hasFailed = true }
      if isInitial {
        isInitial = false
        applyVPN(try target())
      }
    } catch {
      report(.configError, "Error applying configuration change: \(error)")
      hasFailed = true
    }
    if hasFailed { retryLater() } else { failures = 0 }
  }

  private func retryLater() {
    let delay = min(Self.firstRetryDelay * (1 << min(failures, 16)), Self.longestRetryDelay)
    failures += 1
    if let retryTimer { return retryTimer.restart(after: delay) }
    retryTimer = EventLoop.shared.schedule(after: delay, tolerance: .seconds(10)) {
      [weak self] in
      self?.isDue = true
      self?.wake()
    }
  }

  /// Once for each target; what fails is the switch's to try again. The first pass after a start never
  /// switches the VPN off: until all else is done, the device can be reached over it.
  private func applyVPN(_ wanted: [String: String]) {
    guard !settings.isUnmanaged else { return vpn.set(nil) }
    // An unrecognised text is no reason to cut the device off.
    let isWanted = SettingRule.truth(of: wanted[DeviceVariable.vpnControl] ?? "true") ?? true
    guard isVPNDue, isWanted || !isInitial else { return }
    isVPNDue = false
    vpn.set(isWanted, isQuiet: isInitial)
  }

  /// One after the other: the second finds what the first has set.
  ///
  /// - Returns: false when they could not be written.
  @discardableResult
  private func applySettings() async -> Bool {
    await settingsTurns.enter()
    defer { settingsTurns.leave() }
    let wanted: [String: String]
    do throws(DatabaseError) { wanted = try target() } catch {
      report(.configError, "Error applying configuration change: \(error)")
      return false
    }
    let change = DeviceConfiguration.change(from: settings.currentVariables, to: wanted)
    for warning in change.warnings { report(.invalidConfig, warning) }
    guard !change.isEmpty else { return true }
    let text = JSON(change.variables)
    let wasScheduled = rebootMarker.isRequired
    if !change.rebooting.isEmpty {
      var object = JSONObject()
      for (key, value) in change.rebooting { object[key.name] = .string(value) }
      scheduleReboot(.object(object))
    }
    report(.config, "Applying configuration change \(text)")
    do throws(SettingError) {
      try await settings.apply(change)
      report(.configApplied, "Applied configuration change \(text)")
      return true
    } catch {
      report(.configError, "Error applying configuration change: \(error.description)")
      if !wasScheduled { rebootMarker.remove() }
      return false
    }
  }

  /// One back end after the other. The reboot stands on the disk before the change does: a crash in between
  /// must not lose it. A change that cannot be written is no reason for one.
  ///
  /// - Returns: false when one could not be written.
  private func applyBoot(_ wanted: [String: String]) async -> Bool {
    let changes = await boot.changes(for: wanted)
    let wasScheduled = rebootMarker.isRequired
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
