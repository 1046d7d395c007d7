public import Logging
public import SystemBus

/// Whether the host announces itself in the local network: its avahi daemon, switched by
/// `hostDiscoverability` (host 9.6).
public final class HostDiscovery {
  private static let service = "avahi-daemon.service"
  private static let socket = "avahi-daemon.socket"

  private let systemd: SystemdManager
  private let logger: Logger
  private var wanted: Bool?
  private var isSwitching = false

  public init(systemd: SystemdManager, logger: Logger) {
    self.systemd = systemd
    self.logger = logger
  }

  /// In the background; of several requests the last one counts. A host without avahi is no fault.
  public func set(_ isDiscoverable: Bool) {
    wanted = isDiscoverable
    guard !isSwitching else { return }
    isSwitching = true
    Task {
      while let next = wanted {
        wanted = nil
        await change(to: next)
      }
      isSwitching = false
    }
  }

  private func change(to isDiscoverable: Bool) async {
    do throws(BusError) {
      if isDiscoverable {
        _ = try await systemd.start(Self.service)
        _ = try await systemd.start(Self.socket)
      } else {
        // The socket first: it would start the service again.
        _ = try await systemd.stop(Self.socket)
        _ = try await systemd.stop(Self.service)
      }
    } catch {
      logger.error("There was an error switching host discoverability: \(error)")
    }
  }
}
