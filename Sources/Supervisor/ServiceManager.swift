import CSystemd
import EventLoop
import Glibc

/// The service manager's side of the process: readiness, watchdog, status.
///
/// Source: sd_notify(3), sd_watchdog_enabled(3). Without a manager every
/// call does nothing.
public final class ServiceManager {
  private var watchdogTimer: LoopTimer?
  private var lastStatus = ""

  public init() {}

  public func notifyReady() { sd_notify(0, "READY=1") }

  public func notifyStopping() { sd_notify(0, "STOPPING=1") }

  /// Free text for `systemctl status`; sent when it changes.
  public func notify(status: String) {
    guard status != lastStatus else { return }
    lastStatus = status
    sd_notify(0, "STATUS=\(status.map { $0.isNewline ? " " : $0 }.reduce(into: "") { $0.append($1) })")
  }

  /// Sends `WATCHDOG=1` three times within the manager's limit, as long as `isHealthy` says so.
  public func startWatchdog(isHealthy: @escaping () -> Bool) {
    var microseconds: UInt64 = 0
    guard sd_watchdog_enabled(0, &microseconds) > 0, microseconds > 0 else { return }
    let interval = Duration.microseconds(Int64(clamping: microseconds / 3))
    watchdogTimer = EventLoop.shared.schedule(after: interval, tolerance: interval / 4) { [unowned self] in
      if isHealthy() { sd_notify(0, "WATCHDOG=1") }
      watchdogTimer?.restart(after: interval)
    }
  }
}
