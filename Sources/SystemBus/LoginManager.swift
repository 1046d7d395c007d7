/// Reboot and power-off through logind (org.freedesktop.login1(5), host 6).
///
/// Calls are not interactive: what polkit refuses is an error at once. logind before version 257 passes over
/// inhibitors when root asks, so they are asked for first: one of mode `block` on `shutdown` is an error without `force`,
/// and passed over with it. A host without logind is asked through its service manager.
public final class LoginManager {
  private static let service = "org.freedesktop.login1"
  private static let path = "/org/freedesktop/login1"
  private static let manager = "org.freedesktop.login1.Manager"

  private static let blocked = "org.freedesktop.login1.BlockedByInhibitorLock"
  /// SD_LOGIND_SKIP_INHIBITORS of logind's methods with flags.
  private static let skipInhibitors: UInt64 = 1 << 4
  /// A logind that does not say so is asked to go down all the same.
  private static let inhibitorTimeout = Duration.seconds(5)

  /// To a logind that is not back yet, after its bus.
  private static let questionTries = 10
  private static let questionDelay = Duration.seconds(3)

  private let bus: SystemBus
  private let systemd: SystemdManager
  private var preparation: SystemBus.Subscription?

  public init(bus: SystemBus, systemd: SystemdManager) {
    self.bus = bus
    self.systemd = systemd
  }

  /// - Parameter force: despite inhibitors.
  public func reboot(force: Bool = false) async throws(BusError) {
    do throws(BusError) { try await goDown("Reboot", force: force) } catch {
      guard error.isServiceMissing else { throw error }
      try await systemd.reboot()
    }
  }

  /// - Parameter force: despite inhibitors.
  public func powerOff(force: Bool = false) async throws(BusError) {
    do throws(BusError) { try await goDown("PowerOff", force: force) } catch {
      guard error.isServiceMissing else { throw error }
      try await systemd.powerOff()
    }
  }

  private func goDown(_ member: String, force: Bool) async throws(BusError) {
    guard force else {
      if let inhibitor = await inhibitor() {
        throw BusError(.remote(name: Self.blocked), "\(member) is inhibited by \(inhibitor)")
      }
      try await call(member, [.boolean(false)])
      return
    }
    do throws(BusError) { try await call(member, [.boolean(false)]) } catch {
      guard error.isRemote(Self.blocked, "org.freedesktop.DBus.Error.AccessDenied") else { throw error }
      let first = error
      do throws(BusError) { try await call("\(member)WithFlags", [.uint64(Self.skipInhibitors)]) } catch {
        throw first
      }
    }
  }

  /// Who inhibits a shutdown, and why; nil when nobody does, or logind does not say.
  private func inhibitor() async -> String? {
    let answer: [BusValue]
    do throws(BusError) {
      answer = try await bus.call(
        Self.service, Self.path, Self.manager, "ListInhibitors", timeout: Self.inhibitorTimeout)
    } catch {
      return nil
    }
    for case .structure(let fields) in answer.first?.items ?? [] where fields.count >= 4 {
      // what, who, why, mode, uid, pid
      let texts = fields.map { $0.text ?? "" }
      guard texts[3] == "block", texts[0].split(separator: ":").contains("shutdown") else { continue }
      return texts[2].isEmpty ? texts[1] : "\(texts[1]) (\(texts[2]))"
    }
    return nil
  }

  /// `yes`, `no`, `challenge` or `na`.
  public func canReboot() async throws(BusError) -> String {
    try await call("CanReboot").first?.text ?? "na"
  }

  /// Calls back when the host begins to go down (true), or gave it up (false). A bus that is not there is not waited
  /// for: the next call that connects listens too. After the end of a connection, when a signal may have been missed,
  /// logind is asked how it is, and the answer told.
  public func onPrepareForShutdown(_ handler: @escaping (Bool) -> Void) {
    preparation = bus.subscribe(
      "type='signal',sender='\(Self.service)',path='\(Self.path)',interface='\(Self.manager)',member='PrepareForShutdown'",
      isInsistent: false,
      reconnected: { [weak self] in
        Task { if let isPreparing = await self?.isPreparingForShutdown() { handler(isPreparing) } }
      }
    ) { values in
      if let isBeginning = values.first?.bool { handler(isBeginning) }
    }
  }

  /// nil when nobody can be asked. logind may come back some time after its bus.
  private func isPreparingForShutdown() async -> Bool? {
    for _ in 0..<Self.questionTries {
      do throws(BusError) {
        return try await bus.property(Self.service, Self.path, Self.manager, "PreparingForShutdown").bool
      } catch {
        // The next connection asks again.
        if error.kind == .disconnected { return nil }
      }
      try? await Task.sleep(for: Self.questionDelay)
    }
    return nil
  }

  @discardableResult
  private func call(_ member: String, _ arguments: [BusValue] = []) async throws(BusError) -> [BusValue] {
    try await bus.call(Self.service, Self.path, Self.manager, member, arguments)
  }
}
