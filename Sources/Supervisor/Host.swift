import Database
import DeviceAPI
import Glibc
import HostConfiguration
import JSON
import Logging
import Model
import StateEngine
import SystemBus

/// The host around the agent: bus, light, hostname and proxy.
final class Host {
  let bus: SystemBus
  let systemd: SystemdManager
  let login: LoginManager
  let leds: LEDPlayer
  let proxyServices: ProxyServices
  let hostConfigFiles: HostConfigFiles
  let configurator: DeviceConfigurator
  let rebootMarker: RebootMarker
  /// Knows the apps, and holds their update locks.
  private(set) weak var engine: StateEngine?

  private let boot: BootConfiguration
  private let firewall: Firewall
  private let discovery: HostDiscovery
  /// One change of the host's configuration at a time: each begins with the files as they are.
  private let hostConfigTurn = FairMutex()
  /// Firewall and discovery of the host are the agent's to set.
  private var ownsHost = false

  private let paths: HostPaths
  private let facts: HostFacts
  private let settings: Settings
  private let store: Store
  private let ports: ListenPorts
  private let logger = Logger(label: "host")

  /// - Parameter ports: those that the API is bound to.
  init(
    paths: HostPaths, facts: HostFacts, settings: Settings, store: Store, ports: ListenPorts,
    busAddress: String
  ) {
    let logger = logger
    let hooks = Hooks()
    let report = { (event: DeviceEvent, text: String) in hooks.report(event, text) }
    let marker = RebootMarker(path: paths.rebootMarker, facts: facts)
    rebootMarker = marker
    self.hooks = hooks
    self.paths = paths
    self.facts = facts
    self.settings = settings
    self.store = store
    self.ports = ports
    bus = SystemBus(address: busAddress, logger: logger)
    systemd = SystemdManager(bus: bus, logger: logger)
    login = LoginManager(bus: bus, systemd: systemd)
    leds = LEDPlayer(configured: paths.led, statePath: "\(paths.runtime)/led", logger: logger)
    proxyServices = ProxyServices(
      systemd: systemd, marker: paths.proxyRestartMarker, logger: logger)
    hostConfigFiles = HostConfigFiles(paths: paths, settings: settings, logger: logger)
    boot = BootConfiguration(paths: paths, facts: facts, settings: settings, logger: logger, report: report)
    configurator = DeviceConfigurator(
      settings: settings, store: store, boot: boot, systemd: systemd,
      rebootMarker: marker, report: report,
      scheduleReboot: { reason in
        do throws(FileError) {
          try marker.set()
          report(.rebootScheduled, "Reboot has been scheduled to apply changes: \(reason)")
        } catch {
          logger.error("Cannot schedule a reboot: \(error)")
        }
      }, wake: { hooks.wake() })
    firewall = Firewall(hostRoot: paths.hostRoot, logger: logger) { report(.firewallError, $0) }
    discovery = HostDiscovery(systemd: systemd, logger: logger)
  }

  /// - Parameters:
  ///   - ownsHost: whether the device is the agent's: its firewall and its discovery.
  ///   - report: takes lines for the user.
  func start(_ engine: StateEngine, ownsHost: Bool, report: @escaping (DeviceEvent, String) -> Void) {
    self.engine = engine
    self.ownsHost = ownsHost
    hooks.wake = { [weak engine] in engine?.trigger() }
    hooks.report = report
    do throws(DatabaseError) { try configurator.saveInitialConfiguration() } catch {
      logger.error("The device's first configuration is not kept: \(error.message)")
    }
    configurator.start()
    login.onPrepareForShutdown { [weak engine] in engine?.noteHost(isGoingDown: $0) }
    applyFirewall()
    if ownsHost { discovery.set(settings.bool(.hostDiscoverability)) }
    settings.onChange(of: [.initialConfigReported]) { [weak self] _ in self?.configurator.noteReported() }
    let watched: Set<SettingKey> = [.firewallMode, .localMode, .apiEndpoint, .hostDiscoverability]
    settings.onChange(of: watched) { [weak self] change in
      guard let self else { return }
      if change.keys.contains(where: { $0 != .hostDiscoverability }) { applyFirewall() }
      if self.ownsHost, change[.hostDiscoverability] != nil {
        discovery.set(settings.bool(.hostDiscoverability))
      }
    }
  }

  private let hooks: Hooks

  /// What the parts of the host call, and what is there after they are made.
  private final class Hooks {
    var wake: () -> Void = {}
    var report: (DeviceEvent, String) -> Void = { _, _ in }
  }

  /// After a change of the mode, of local mode, or of the target.
  func applyFirewall() {
    guard ownsHost else { return }
    let mode = Firewall.mode(settings.string(.firewallMode), logger: logger)
    let rules = FirewallRules(
      mode: mode, port: ports.known, portOverride: ports.overriding,
      isLocalMode: settings.isUnmanaged || settings.bool(.localMode),
      usesHostNetwork: mode == .auto && usesHostNetwork)
    firewall.apply(rules)
  }

  /// How long the API waits for the rules that guard its port, while others hold the tables or the tools hang.
  private static let firewallPatience = Duration.seconds(10)

  /// Returns when the API's port is guarded on all addresses, or cannot be.
  func firewallStands() async {
    if ownsHost { await firewall.firstTry(within: Self.firewallPatience) }
  }

  /// Of the target as it is stored: what is mapped of it comes later, and only while the engine answers.
  private var usesHostNetwork: Bool {
    do throws(DatabaseError) {
      return try store.targets.targetApps(source: settings.targetSource).contains(where: \.usesHostNetwork)
    } catch {
      logger.error("Cannot read the target state: \(error)")
      return false
    }
  }

  var busCallCount: Int { Int(clamping: bus.callCount) }

  /// What must not stay as the agent has it now.
  func stop() { leds.stop() }

  /// Variables of the boot configuration as it is now.
  var bootVariables: [String: String] { boot.currentVariables() }

  // MARK: VPN

  func vpnStatus() async throws(HostFailure) -> VPNStatus {
    do throws(BusError) {
      let state = try await systemd.activeState(of: DeviceConfigurator.vpnUnit)
      return VPNStatus(
        isEnabled: state != nil && state != "inactive" && state != "deactivating",
        isConnected: isVPNConnected)
    } catch {
      throw HostFailure(error.message)
    }
  }

  var isVPNConnected: Bool {
    var status = stat()
    return lstat("\(paths.vpnStatus)/active", &status) == 0
  }
}

extension Host: @MainActor HostControl {
  func blink() { leds.identify() }

  func hostConfig() throws(HostFailure) -> JSON {
    do throws(FileError) { return try hostConfigFiles.current(hostname: facts.hostname) } catch {
      throw HostFailure(error.message)
    }
  }

  func changeHostConfig(_ request: HostConfigRequest) async throws(HostConfigFailure) {
    // Where another change is under way, what there is to do is known after it.
    if !hostConfigTurn.isHeld, try !isToDo(request) { return }
    guard await hostConfigTurn.enter(timeout: UpdateLocks.actionTimeout) == .entered else {
      throw HostConfigFailure("The host's configuration is being changed by another request", isLock: true)
    }
    defer { hostConfigTurn.leave() }
    guard let engine else { throw HostConfigFailure("The agent has not started yet") }
    let isForced = request.force || settings.bool(.lockOverride)
    do {
      try await engine.locks.withLocks(engine.appsWithLocks, force: isForced) {
        // Others may have written while the locks were waited for.
        let change = try hostConfigFiles.change(for: request)
        if change.changesProxy { await proxyServices.noteRestartDue() }
        try await hostConfigFiles.apply(change)
        if request.proxy != nil, proxyServices.isRestartDue { try await proxyServices.restart() }
      }
    } catch let error as UpdateLockError {
      throw HostConfigFailure(error.description, isLock: error.isConflict)
    } catch {
      throw HostConfigFailure("\(error)")
    }
  }

  private func isToDo(_ request: HostConfigRequest) throws(HostConfigFailure) -> Bool {
    do throws(FileError) {
      return try !hostConfigFiles.change(for: request).isEmpty
        || request.proxy != nil && proxyServices.isRestartDue
    } catch {
      throw HostConfigFailure(error.message)
    }
  }
}
