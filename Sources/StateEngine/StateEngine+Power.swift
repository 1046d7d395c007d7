import EventLoop
import Logging
import Model

/// How the device goes down.
public nonisolated enum PowerAction: Sendable {
  case reboot, shutdown
}

// Reboot and shutdown (state-engine 1.7, http-api 4.6). The locks of all apps are held until the
// device is down: nobody begins critical work in its last second.
extension StateEngine {
  /// Between the answer to the call and the request to the system.
  static let powerDelay = Duration.seconds(1)
  /// A device that does not go down in this time will not.
  nonisolated static let powerTimeout = Duration.seconds(600)

  /// Has the device go down; returns when that is certain but for the system's refusal, which is
  /// logged and gives the engine and the API back.
  ///
  /// - Parameter force: despite update locks and a pending update of the host.
  /// - Throws: `hostUpdatePending`, `locks`.
  public func goDown(_ action: PowerAction, force: Bool) async throws(ActionError) {
    let outcome = PowerOutcome()
    Task { await self.runPower(action, force: force, outcome) }
    await outcome.begun()
    if let error = outcome.refusal { throw error }
  }

  /// The step `reboot`: returns only when the device did not go down.
  func rebootStep() async throws(StepError) {
    let outcome = PowerOutcome()
    await runPower(.reboot, force: isForced, outcome)
    switch outcome.refusal {
    case nil: throw .failed(outcome.failure ?? "the system did not reboot")
    case .locks(let error): throw .lock(error)
    case .hostUpdatePending: throw .lock(.hostUpdatePending)
    case let error?: throw .failed(error.description)
    }
  }

  private func runPower(_ action: PowerAction, force: Bool, _ outcome: PowerOutcome) async {
    defer { outcome.begin() }
    guard let host, !isShuttingDown else { return }
    guard force || !host.isHostUpdatePending else { return outcome.refusal = .hostUpdatePending }
    do {
      try await locks.withLocks(
        currentApps.map(\.appId), force: force || host.isLockOverridden
      ) {
        await takeDown(action, host, outcome)
      }
    } catch let error as UpdateLockError {
      noteLock(error)
      outcome.refusal = .locks(error)
    } catch {
      outcome.refusal = .failed("\(error)")
    }
  }

  private func takeDown(
    _ action: PowerAction, _ host: any StateEngineHost, _ outcome: PowerOutcome
  ) async {
    let event: SystemEvent = action == .reboot ? .reboot : .shutdown
    host.report(event, text: event.humanName, isError: false)
    isShuttingDown = true
    outcome.begin()
    do throws(StepError) {
      try? await EventLoop.shared.sleep(for: Self.powerDelay)
      // The answer to the call is out.
      onShutdown(true)
      switch action {
      case .reboot: try await host.reboot()
      case .shutdown: try await host.powerOff()
      }
      try? await EventLoop.shared.sleep(for: Self.powerTimeout)
      outcome.failure = "the system did not go down"
    } catch {
      outcome.failure = error.description
    }
    host.report(event, text: "\(event.humanName) failed: \(outcome.failure ?? "")", isError: true)
    isShuttingDown = false
    onShutdown(false)
    wake.set()
  }
}

/// What became of a reboot; a class, since the optimiser of this toolchain breaks task results of
/// typed errors.
private final class PowerOutcome {
  /// Why it was not even begun.
  var refusal: ActionError?
  /// Why the system did not do it.
  var failure: String?
  private var hasBegun = false
  private var waiter: CheckedContinuation<Void, Never>?

  func begin() {
    hasBegun = true
    waiter.take()?.resume()
  }

  func begun() async {
    guard !hasBegun else { return }
    await withCheckedContinuation { waiter = $0 }
  }
}
