/// Reboot and power-off through logind (org.freedesktop.login1(5), host 6).
///
/// Calls are not interactive: what polkit or an inhibitor refuses is an error at once. A host
/// without logind is asked through its service manager.
public final class LoginManager {
  private static let service = "org.freedesktop.login1"
  private static let path = "/org/freedesktop/login1"
  private static let manager = "org.freedesktop.login1.Manager"

  private let bus: SystemBus
  private let systemd: SystemdManager
  private var preparation: SystemBus.Subscription?

  public init(bus: SystemBus, systemd: SystemdManager) {
    self.bus = bus
    self.systemd = systemd
  }

  public func reboot() async throws(BusError) {
    do throws(BusError) { try await call("Reboot", [.boolean(false)]) } catch {
      guard error.isServiceMissing else { throw error }
      try await systemd.reboot()
    }
  }

  public func powerOff() async throws(BusError) {
    do throws(BusError) { try await call("PowerOff", [.boolean(false)]) } catch {
      guard error.isServiceMissing else { throw error }
      try await systemd.powerOff()
    }
  }

  /// `yes`, `no`, `challenge` or `na`.
  public func canReboot() async throws(BusError) -> String {
    try await call("CanReboot").first?.text ?? "na"
  }

  /// Calls back when the host begins to go down (true), or gave it up (false).
  public func onPrepareForShutdown(_ handler: @escaping (Bool) -> Void) {
    preparation = bus.subscribe(
      "type='signal',sender='\(Self.service)',path='\(Self.path)',interface='\(Self.manager)',member='PrepareForShutdown'"
    ) { values in
      if let isBeginning = values.first?.bool { handler(isBeginning) }
    }
  }

  @discardableResult
  private func call(_ member: String, _ arguments: [BusValue] = []) async throws(BusError) -> [BusValue] {
    try await bus.call(Self.service, Self.path, Self.manager, member, arguments)
  }
}
