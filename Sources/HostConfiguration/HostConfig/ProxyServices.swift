import Glibc
import Logging
public import SystemBus

/// The host's units that have to learn of a new proxy configuration (host 5.7).
///
/// On newer hosts a path unit watches the files, and everything that depends on them is part of
/// `redsocks-conf.target`: then there is nothing to do.
///
/// That a restart is due is noted on disk before the files change, and forgotten when it has succeeded: neither a
/// failure nor the end of the agent in between leaves the units with the old files for good.
public final class ProxyServices {
  /// How long the restart of one unit is waited for, so that the API answers.
  public static let restartTimeout = Duration.seconds(20)
  private static let target = "redsocks-conf.target"
  private static let configurationUnits = ["balena-proxy-config.service", "resin-proxy-config.service"]
  private static let proxyUnit = "redsocks.service"

  private let systemd: SystemdManager
  private let marker: String
  private let logger: Logger

  /// The files have changed, and not every unit was restarted since.
  public private(set) var isRestartDue: Bool

  /// - Parameter marker: path of the file that is there while a restart is due.
  public init(systemd: SystemdManager, marker: String, logger: Logger) {
    self.systemd = systemd
    self.marker = marker
    self.logger = logger
    isRestartDue = access(marker, F_OK) == 0
  }

  /// Before the files are changed; it is on the disk when this returns.
  public func noteRestartDue() async {
    isRestartDue = true
    guard access(marker, F_OK) != 0 else { return }
    do throws(FileError) { try await DurableFile.writeInTurns([], to: marker) } catch {
      logger.warning(
        "That the proxy's units are to be restarted is not known after the agent's end: \(error)")
    }
  }

  private func noteRestarted() {
    isRestartDue = false
    guard unlink(marker) != 0, errno != ENOENT else { return }
    logger.warning("Cannot delete \(marker): \(String(cString: strerror(errno)))")
  }

  /// Restarts, one after the other, what does not watch the files itself. The second is tried also when the first
  /// could not be restarted.
  ///
  /// - Throws: the first failure: the bus cannot be reached, or a restart failed or does not end in time.
  public func restart() async throws(BusError) {
    var failures: [BusError] = []
    do throws(BusError) { try await restartConfiguration() } catch { failures.append(error) }
    do throws(BusError) { _ = try await restartIfAlone(Self.proxyUnit) } catch { failures.append(error) }
    for failure in failures.dropFirst() { logger.error("\(failure)") }
    if let failure = failures.first { throw failure }
    noteRestarted()
  }

  /// Both names are of one unit; the first that the host knows counts.
  private func restartConfiguration() async throws(BusError) {
    for unit in Self.configurationUnits where try await restartIfAlone(unit) { return }
  }

  /// - Returns: false when the host has no such unit.
  private func restartIfAlone(_ unit: String) async throws(BusError) -> Bool {
    guard let groups = try await systemd.partOf(unit) else { return false }
    if !groups.contains(Self.target) { try await restart(unit) }
    return true
  }

  private func restart(_ unit: String) async throws(BusError) {
    switch try await systemd.run(.restart, unit, timeout: Self.restartTimeout) {
    case .done: logger.info("Restarted \(unit) for the new proxy configuration")
    case .unitMissing: break
    case .failed(let result): throw BusError(.invalid, "Restart of \(unit): \(result)")
    case .unfinished(let state):
      throw BusError(
        .timeout,
        "Restart of \(unit) has not ended after \(Self.restartTimeout.components.seconds) s: it is \(state)")
    }
  }
}
