import Logging
public import SystemBus

/// The host's units that have to learn of a new proxy configuration (host 5.7).
///
/// On newer hosts a path unit watches the files, and everything that depends on them is part of
/// `redsocks-conf.target`: then there is nothing to do.
public final class ProxyServices {
  /// How long the restart of one unit is waited for, so that the API answers.
  public static let restartTimeout = Duration.seconds(20)
  private static let target = "redsocks-conf.target"
  private static let configurationUnits = ["balena-proxy-config.service", "resin-proxy-config.service"]
  private static let proxyUnit = "redsocks.service"

  private let systemd: SystemdManager
  private let logger: Logger

  public init(systemd: SystemdManager, logger: Logger) {
    self.systemd = systemd
    self.logger = logger
  }

  /// Restarts, one after the other, what does not watch the files itself.
  ///
  /// - Throws: when the bus cannot be reached, or a restart does not end in time.
  public func restart() async throws(BusError) {
    for unit in Self.configurationUnits {
      guard let groups = try await systemd.partOf(unit) else { continue }
      // Both names are of one unit; the first that the host knows counts.
      if !groups.contains(Self.target) { try await restart(unit) }
      break
    }
    guard let groups = try await systemd.partOf(Self.proxyUnit) else { return }
    if !groups.contains(Self.target) { try await restart(Self.proxyUnit) }
  }

  private func restart(_ unit: String) async throws(BusError) {
    switch try await systemd.run(.restart, unit, timeout: Self.restartTimeout) {
    case .done: logger.info("Restarted \(unit) for the new proxy configuration")
    case .unitMissing: break
    // The files may be one part of a configuration that comes in several requests.
    case .failed(let result): logger.error("Restart of \(unit): \(result)")
    case .unfinished(let state):
      throw BusError(
        .timeout,
        "Restart of \(unit) has not ended after \(Self.restartTimeout.components.seconds) s: it is \(state)")
    }
  }
}
