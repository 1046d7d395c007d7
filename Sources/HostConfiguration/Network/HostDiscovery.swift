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
        note(try await systemd.start(Self.service), of: Self.service)
        note(try await systemd.start(Self.socket), of: Self.socket)
      } else {
        // The socket first: it would start the service again.
        note(try await systemd.stop(Self.socket), of: Self.socket)
        note(try await systemd.stop(Self.service), of: Self.service)
      }
    } catch {
      noteFailure("\(error)")
    }
  }

  private func note(_ outcome: SystemdManager.Outcome, of unit: String) {
    switch outcome {
    case .done, .unitMissing: break
    case .failed(let result): noteFailure("\(unit): \(result)")
    case .unfinished(let state): noteFailure("\(unit) is still \(state)")
    }
  }

  private func noteFailure(_ reason: String) {
    logger.error("There was an error switching host discoverability: \(reason)")
  }
}
