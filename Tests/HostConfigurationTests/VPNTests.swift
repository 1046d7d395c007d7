import Database
import EventLoop
import SystemBus
import TestSupport
import Testing

@testable import HostConfiguration

/// The service manager's view of the VPN's unit.
private final class StandInUnit {
  var state: Result<String?, BusError> = .success("active")
  var outcome = SystemdManager.Outcome.done
  var looks = 0
  var jobs: [SystemdManager.Verb] = []
  var reports: [String] = []
  /// Jobs do not end while it is set.
  var isHanging = false

  func makeSwitch(firstRetryDelay: Duration = .seconds(600), jobRetryDelay: Duration = .seconds(600))
    -> VPNSwitch
  {
    LoopDriver.start()
    return VPNSwitch(
      .init(
        activeState: { [self] () async throws(BusError) in
          looks += 1
          return try state.get()
        },
        run: { [self] (verb) async throws(BusError) in
          jobs.append(verb)
          while isHanging { try? await EventLoop.shared.sleep(for: .milliseconds(5)) }
          if outcome == .done { state = .success(verb == .stop ? "inactive" : "active") }
          return outcome
        }), firstRetryDelay: firstRetryDelay, jobRetryDelay: jobRetryDelay
    ) { [self] _, text in reports.append(text) }
  }
}

private let applying = #"Applying configuration change {"SUPERVISOR_VPN_CONTROL":"false"}"#
private let applied = #"Applied configuration change {"SUPERVISOR_VPN_CONTROL":"false"}"#
private let failed = "Error applying configuration change: "

@Suite("Switch of the VPN")
struct VPNSwitchTests {
  private let unit = StandInUnit()

  @Test("what is as wanted is left alone, what is not is switched and told")
  func switches() async {
    let vpn = unit.makeSwitch()
    vpn.set(true)
    #expect(await eventually { unit.looks == 1 })
    #expect(unit.jobs.isEmpty && unit.reports.isEmpty)
    vpn.set(false)
    #expect(await eventually { unit.reports == [applying, applied] })
    #expect(unit.jobs == [.stop])
    vpn.set(true, isQuiet: true)
    #expect(await eventually { unit.jobs == [.stop, .start] })
    #expect(unit.reports == [applying, applied])
  }

  @Test("a host without the unit is none of a failure")
  func missing() async {
    unit.state = .success(nil)
    let vpn = unit.makeSwitch(firstRetryDelay: .milliseconds(1), jobRetryDelay: .milliseconds(1))
    vpn.set(false)
    #expect(await eventually { unit.looks == 1 })
    try? await EventLoop.shared.sleep(for: .milliseconds(50))
    #expect(unit.looks == 1 && unit.jobs.isEmpty && unit.reports.isEmpty)
  }

  @Test("a job that failed is told once and tried again until it succeeds", arguments: [true, false])
  func failedJob(_ isFailed: Bool) async {
    let vpn = unit.makeSwitch(jobRetryDelay: .milliseconds(5))
    unit.outcome = isFailed ? .failed(result: "timeout") : .unfinished(activeState: "deactivating")
    vpn.set(false)
    #expect(await eventually { unit.jobs.count >= 3 })
    unit.outcome = .done
    #expect(await eventually { unit.reports.last == applied })
    let problem = isFailed ? "openvpn.service: timeout" : "openvpn.service is still deactivating"
    #expect(unit.reports.filter { $0.hasPrefix(failed) } == [failed + problem])
  }

  @Test("without a bus it asks again, less and less often, and no job is begun")
  func noBus() async throws {
    unit.state = .failure(BusError(.disconnected, "no connection"))
    let vpn = unit.makeSwitch(firstRetryDelay: .milliseconds(20))
    let start = MonotonicTime.read()
    vpn.set(false)
    #expect(await eventually { unit.looks >= 4 })
    // 20 + 40 + 80 ms
    #expect(MonotonicTime.read() - start >= .milliseconds(140))
    unit.state = .success("active")
    #expect(await eventually { unit.reports.last == applied })
    #expect(unit.reports == ["\(failed)no connection", applying, applied])
    #expect(unit.jobs == [.stop])
  }

  @Test("a request that comes while a unit hangs is done after it, and holds up nobody")
  func hanging() async {
    unit.state = .success("inactive")
    unit.isHanging = true
    let vpn = unit.makeSwitch()
    vpn.set(true)
    #expect(await eventually { unit.jobs == [.start] })
    vpn.set(true)
    vpn.set(false)
    unit.isHanging = false
    #expect(await eventually { unit.jobs == [.start, .stop] })
    vpn.set(nil)
    #expect(unit.looks == 2)
  }
}

@Suite("Device configuration of a target and the VPN")
struct VPNOfTargetTests {
  private let scratch = Scratch()
  private let unit = StandInUnit()
  private let store: Store

  init() throws {
    LoopDriver.start()
    store = try Store.inMemory()
  }

  private func configurator() async throws -> DeviceConfigurator {
    write(#"{"apiEndpoint":"https://a.example"}"#, to: scratch.file("config.json"))
    let file = try await ConfigFile(
      path: scratch.file("config.json"), bootDirectory: "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    let settings = Settings(file: file, store: store, logger: quiet)
    let paths = HostPaths(.init(hostRoot: scratch.file("host"), boot: scratch.file("boot")))
    let facts = HostFacts(paths: paths, logger: quiet)
    return DeviceConfigurator(
      settings: settings, store: store,
      boot: BootConfiguration(paths: paths, facts: facts, settings: settings, logger: quiet) { _, _ in },
      vpn: unit.makeSwitch(), rebootMarker: RebootMarker(path: scratch.file("marker"), facts: facts),
      report: { _, _ in }, scheduleReboot: { _ in }, wake: {})
  }

  private func setTarget(_ text: String?) throws {
    let config = text.map { ["SUPERVISOR_VPN_CONTROL": $0] } ?? [:]
    try store.targets.replace([], source: "x", deviceName: "n", deviceConfig: config)
  }

  @Test("a stored target without VPN is applied after a start")
  func start() async throws {
    try setTarget("false")
    let configurator = try await configurator()
    configurator.start()
    await configurator.apply()
    #expect(await eventually { unit.jobs == [.stop] })
    // With nothing new there is nothing to ask.
    await configurator.apply()
    #expect(unit.looks == 1)
  }

  @Test("the first target of a device counts, and so does the next one")
  func firstTarget() async throws {
    let configurator = try await configurator()
    await configurator.apply()
    try setTarget("0")
    configurator.noteTarget()
    await configurator.apply()
    #expect(await eventually { unit.jobs == [.stop] })
    try setTarget(nil)
    configurator.noteTarget()
    await configurator.apply()
    #expect(await eventually { unit.jobs == [.stop, .start] })
  }

  @Test("a unit that hangs does not hold up the pass")
  func hanging() async throws {
    unit.isHanging = true
    try setTarget("false")
    let configurator = try await configurator()
    await configurator.apply()
    #expect(await eventually { unit.jobs == [.stop] })
    try setTarget("no truth value")
    configurator.noteTarget()
    await configurator.apply()
    unit.isHanging = false
    #expect(await eventually { unit.jobs == [.stop, .start] })
  }
}
