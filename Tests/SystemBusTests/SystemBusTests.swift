import CSystemd
import EventLoop
import Glibc
import Logging
import SystemBus
import TestSupport
import Testing

/// The error of a call, nil when it succeeds.
private func failure(_ body: () async throws(BusError) -> Void) async -> BusError? {
  do throws(BusError) { try await body() } catch { return error }
  return nil
}

private let logger = Logger(label: "test")

@Suite(.serialized) struct SystemBusTests {
  private static let login = "org.freedesktop.login1"
  private static let path = "/org/freedesktop/login1"

  @Test func aCallHasItsAnswer() async throws {
    try await withBus { fixture in
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      let answer = try await LoginManager(bus: fixture.bus, systemd: systemd).canReboot()
      #expect(answer == "yes")
    }
  }

  @Test func everyTypeSurvivesThereAndBack() async throws {
    let values: [BusValue] = [
      .array(
        signature: "(sv)",
        [
          .structure([.string("a"), .variant(.strings(["x", "y"]))]),
          .structure([.string("ü"), .variant(.uint64(.max))]),
        ]),
      .byte(255), .boolean(true), .int16(-1), .uint16(65535), .int32(-5), .uint32(7), .int64(.min),
      .uint64(.max), .double(0.5), .objectPath("/a/b"), .signature("a{sv}"),
    ]
    try await withBus { fixture in
      let answer = try await fixture.bus.call(Self.login, Self.path, "test.Control", "Echo", values)
      #expect(answer == values)
    }
  }

  @Test func anErrorOfTheOtherSideHasItsNameAndText() async throws {
    try await withBus { fixture in
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      let error = await failure { () async throws(BusError) in
        try await LoginManager(bus: fixture.bus, systemd: systemd).powerOff()
      }
      #expect(error?.kind == .remote(name: "org.freedesktop.DBus.Error.AccessDenied"))
      #expect(error?.message.contains("Operation inhibited") == true)
    }
  }

  @Test func anInhibitorThatBlocksAShutdownIsNamedAndForcePassesOverIt() async throws {
    try await withBus { fixture in
      let manager = LoginManager(
        bus: fixture.bus, systemd: SystemdManager(bus: fixture.bus, logger: logger))
      func inhibit(_ what: String, _ mode: String) async throws {
        try await fixture.bus.call(
          Self.login, Self.path, "test.Control", "Inhibit", [.string(what), .string(mode)])
      }
      try await inhibit("idle:shutdown", "block")
      let error = await failure { () async throws(BusError) in try await manager.reboot() }
      #expect(error?.message == "Reboot is inhibited by backup (copies the disk)")
      #expect(fixture.calls.isEmpty)
      try await manager.reboot(force: true)
      #expect(fixture.calls == ["Reboot 0"])
      for (what, mode) in [("shutdown", "delay"), ("sleep:idle", "block"), ("handle-shutdown", "block")] {
        try await inhibit(what, mode)
        try await manager.reboot()
      }
      #expect(fixture.calls == Array(repeating: "Reboot 0", count: 4))
      // Newer ones refuse root too.
      try await manager.powerOff(force: true)
      #expect(fixture.calls.last == "PowerOffWithFlags 16")
    }
  }

  @Test func aPatientSubscriptionDoesNotTryAgainButIsMadeWithTheNextConnection() async throws {
    try await withBus(startsService: false) { fixture in
      await fixture.stopDaemon()
      unlink("\(fixture.directory.path)/bus")
      var heard = 0
      let rule = "type='signal',sender='\(Self.login)',member='PrepareForShutdown'"
      let subscription = fixture.bus.subscribe(rule, isInsistent: false) { _ in heard += 1 }
      try await fixture.startDaemon()
      try await fixture.startService()
      try await Task.sleep(for: .seconds(1))
      #expect(!fixture.bus.isConnected)
      try await fixture.bus.call(Self.login, Self.path, "test.Control", "Prepare", [.boolean(true)])
      #expect(await eventually { heard == 1 })
      subscription.cancel()
    }
  }

  @Test func argumentsThatDBusForbidsAreRefusedBeforeTheyAreSent() async throws {
    try await withBus { fixture in
      let error = await failure { () async throws(BusError) in
        try await fixture.bus.call(Self.login, Self.path, "test.Control", "Echo", [.objectPath("no path")])
      }
      #expect(error?.kind == .invalid)
    }
  }

  @Test func aServiceThatHangsIsGivenUpInTime() async throws {
    try await withBus { fixture in
      let start = MonotonicTime.read()
      let error = await failure { () async throws(BusError) in
        try await fixture.bus.call(
          Self.login, Self.path, "test.Control", "Hang", timeout: .milliseconds(200))
      }
      #expect(error?.kind == .timeout)
      #expect(MonotonicTime.read() - start < .seconds(20))
    }
  }

  @Test func withoutABusACallFailsAtOnceAndWorksWhenThereIsOne() async throws {
    try await withBus(startsService: false) { fixture in
      await fixture.stopDaemon()
      let error = await failure { () async throws(BusError) in
        try await fixture.bus.call(Self.login, Self.path, "\(Self.login).Manager", "CanReboot")
      }
      #expect(error?.kind == .disconnected)
      #expect(error?.message.contains(fixture.address) == true)
      try await fixture.startDaemon()
      try await fixture.startService()
      let answer = try await fixture.bus.call(Self.login, Self.path, "\(Self.login).Manager", "CanReboot")
      #expect(answer == [.string("yes")])
    }
  }

  @Test func aBusThatNeverGreetsDoesNotHoldTheCallerLongerThanHisTimeout() async throws {
    LoopDriver.start()
    let directory = try TemporaryDirectory()
    let listener = csystemd_stream_socket(AF_UNIX)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = "\(directory.path)/mute"
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(status == 0)
    #expect(listen(listener, 5) == 0)
    let bus = SystemBus(address: "unix:path=\(path)", logger: logger)
    let error = await failure { () async throws(BusError) in
      try await bus.call(Self.login, Self.path, "x.y", "Z", timeout: .milliseconds(200))
    }
    #expect(error?.kind == .timeout)
    bus.close()
    close(listener)
    await directory.remove()
  }

  @Test func callsUnderWayFailWhenTheBusGoesAway() async throws {
    try await withBus { fixture in
      let bus = fixture.bus
      let task = Task {
        await failure { () async throws(BusError) in
          try await bus.call(Self.login, Self.path, "test.Control", "Hang", timeout: .seconds(60))
        }
      }
      #expect(await eventually { fixture.calls.contains("Hang") })
      await fixture.stopDaemon()
      let error = await task.value
      #expect(error?.kind == .disconnected)
    }
  }

  @Test func aSubscriptionSurvivesARestartOfTheBus() async throws {
    try await withBus { fixture in
      var heard: [Bool] = []
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      let manager = LoginManager(bus: fixture.bus, systemd: systemd)
      manager.onPrepareForShutdown { heard.append($0) }
      _ = try await manager.canReboot()
      try await fixture.bus.call(Self.login, Self.path, "test.Control", "Prepare", [.boolean(true)])
      #expect(await eventually { heard == [true] })

      await fixture.stopDaemon()
      #expect(await eventually { !fixture.bus.isConnected })
      try await fixture.startDaemon()
      try await fixture.startService()
      #expect(await eventually { fixture.bus.isConnected })
      // logind is asked what became of it.
      #expect(await eventually { heard == [true, false] })
      try await fixture.bus.call(Self.login, Self.path, "test.Control", "Prepare", [.boolean(true)])
      #expect(await eventually { heard == [true, false, true] })
    }
  }

  @Test func aShutdownThatBeganWhileTheBusWasAwayIsHeardAlsoWhenACallConnects() async throws {
    try await withBus { fixture in
      var heard: [Bool] = []
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      let manager = LoginManager(bus: fixture.bus, systemd: systemd)
      manager.onPrepareForShutdown { heard.append($0) }
      _ = try await manager.canReboot()
      await fixture.stopDaemon()
      #expect(await eventually { !fixture.bus.isConnected })
      fixture.serviceArguments = ["preparing"]
      try await fixture.startDaemon()
      try await fixture.startService()
      _ = try await manager.canReboot()
      #expect(await eventually { heard == [true] })
    }
  }

  @Test func aLogindThatComesBackAfterItsBusIsAskedAgain() async throws {
    try await withBus { fixture in
      var heard: [Bool] = []
      let manager = LoginManager(
        bus: fixture.bus, systemd: SystemdManager(bus: fixture.bus, logger: logger))
      manager.onPrepareForShutdown { heard.append($0) }
      _ = try await manager.canReboot()
      await fixture.stopDaemon()
      try await fixture.startDaemon()
      #expect(await eventually { fixture.bus.isConnected })
      try await Task.sleep(for: .milliseconds(500))
      #expect(heard.isEmpty)
      try await fixture.startService()
      #expect(await eventually { heard == [false] })
    }
  }

  @Test func aCancelledSubscriptionHearsNothingMore() async throws {
    try await withBus { fixture in
      var count = 0
      let subscription = fixture.bus.subscribe("type='signal',member='PrepareForShutdown'") { _ in count += 1
      }
      _ = try await fixture.bus.call(Self.login, Self.path, "\(Self.login).Manager", "CanReboot")
      try await fixture.bus.call(Self.login, Self.path, "test.Control", "Prepare", [.boolean(true)])
      #expect(await eventually { count == 1 })
      subscription.cancel()
      try await fixture.bus.call(Self.login, Self.path, "test.Control", "Prepare", [.boolean(true)])
      _ = try await fixture.bus.call(Self.login, Self.path, "\(Self.login).Manager", "CanReboot")
      #expect(count == 1)
    }
  }
}

@Suite(.serialized) struct SystemdManagerTests {
  private func withManager(_ body: (BusFixture, SystemdManager) async throws -> Void) async throws {
    try await withBus { fixture in
      try await body(fixture, SystemdManager(bus: fixture.bus, logger: logger))
    }
  }

  @Test func aJobIsFollowedToItsEnd() async throws {
    try await withManager { (fixture: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.restart("openvpn.service") == .done)
      #expect(fixture.calls == ["Subscribe", "RestartUnit openvpn.service fail"])
    }
  }

  @Test func anEndRightBehindTheAnswerIsNotMissed() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      for _ in 0..<20 { #expect(try await systemd.start("immediate.service") == .done) }
    }
  }

  @Test func jobsAtTheSameTimeAreKeptApart() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      let failing = Task { try? await systemd.start("failing.service") }
      let done = Task { try? await systemd.start("openvpn.service") }
      #expect(await failing.value == .failed(result: "failed"))
      #expect(await done.value == .done)
    }
  }

  @Test func aJobThatHangsIsReportedWithTheUnitsState() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      let outcome = try await systemd.run(.start, "hanging.service", timeout: .milliseconds(200))
      #expect(outcome == .unfinished(activeState: "activating"))
    }
  }

  @Test func aMissingUnitIsAnOutcome() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.stop("missing.service") == .unitMissing)
      #expect(try await systemd.queue(.restart, "missing.service") == false)
      #expect(try await systemd.activeState(of: "missing.service") == nil)
      #expect(try await systemd.partOf("missing.service") == nil)
    }
  }

  @Test func anEnabledUnitIsReadAnewAndARepeatChangesNothing() async throws {
    try await withManager { (fixture: BusFixture, systemd: SystemdManager) async throws in
      let names = ["openvpn.service", "on-disk.service"]
      #expect(try await systemd.enable(names) == .enabled(links: 2))
      #expect(fixture.calls == ["EnableUnitFiles openvpn.service on-disk.service 0 0", "Reload"])
      #expect(try await systemd.enable(names, isForThisBoot: true) == .enabled(links: 0))
      #expect(fixture.calls.dropFirst(2) == ["EnableUnitFiles openvpn.service on-disk.service 1 0"])
    }
  }

  @Test func aUnitThatCannotBeEnabledIsAnOutcome() async throws {
    try await withManager { (fixture: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.enable(["openvpn.service", "missing.service"]) == .unitMissing)
      #expect(try await systemd.enable(["gone.service"]) == .unitMissing)
      #expect(try await systemd.enable(["plain.service"]) == .notInstallable)
      guard case .refused(let reason) = try await systemd.enable(["masked.service"]) else {
        Issue.record("a masked unit was enabled")
        return
      }
      #expect(reason.hasSuffix("Unit masked.service is masked."))
      #expect(!fixture.calls.contains("Reload"))
    }
  }

  @Test func anEnablingThatIsForbiddenOrHangsIsAnErrorInTime() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      let forbidden = await failure { () async throws(BusError) in
        _ = try await systemd.enable(["forbidden.service"])
      }
      #expect(forbidden?.kind == .remote(name: "org.freedesktop.DBus.Error.AccessDenied"))
      let start = MonotonicTime.read()
      let hanging = await failure { () async throws(BusError) in
        _ = try await systemd.enable(["hanging.service"], timeout: .milliseconds(200))
      }
      #expect(hanging?.kind == .timeout)
      #expect(MonotonicTime.read() - start < .seconds(20))
    }
  }

  @Test func aUnitThatIsOnDiskOnlyIsLoaded() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.activeState(of: "on-disk.service") == "inactive")
    }
  }

  @Test func propertiesAreRead() async throws {
    try await withManager { (_: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.activeState(of: "openvpn.service") == "active")
      #expect(try await systemd.partOf("openvpn.service") == ["redsocks-conf.target"])
    }
  }

  @Test func aConflictWithAQueuedJobIsTriedAgain() async throws {
    try await withManager { (fixture: BusFixture, systemd: SystemdManager) async throws in
      #expect(try await systemd.stop("conflict.service") == .done)
      #expect(fixture.calls.filter { $0 == "StopUnit conflict.service fail" }.count == 2)
    }
  }

  @Test func withoutLogindTheServiceManagerReboots() async throws {
    try await withBus(hasLogind: false) { fixture in
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      try await LoginManager(bus: fixture.bus, systemd: systemd).reboot()
      #expect(fixture.calls == ["systemd Reboot"])
    }
  }

  @Test func logindRebootsWithoutInteraction() async throws {
    try await withBus { fixture in
      let systemd = SystemdManager(bus: fixture.bus, logger: logger)
      try await LoginManager(bus: fixture.bus, systemd: systemd).reboot()
      #expect(fixture.calls == ["Reboot 0"])
    }
  }
}
