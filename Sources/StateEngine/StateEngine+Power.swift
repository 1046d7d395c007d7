import EventLoop
import Logging
import Model

/// How the device goes down.
public nonisolated enum PowerAction: Sendable {
  case reboot, shutdown
}

/// Why no step is begun any more.
public nonisolated enum Ending: Sendable, Hashable {
  /// A reboot or shutdown that the agent asks for.
  case request
  /// The host goes down by itself.
  case host
  /// The agent was told to end.
  case agent
}

// Reboot and shutdown (state-engine 1.7, http-api 4.6). The locks of all apps are held until the
// device is down: nobody begins critical work in its last second.
extension StateEngine {
  /// Between the answer to the call and the request to the system.
  static let powerDelay = Duration.seconds(1)
  /// A device that does not go down in this time will not.
  nonisolated static let powerTimeout = Duration.seconds(600)

  /// The host says that it goes down, or that it does not after all.
  public func noteHost(isGoingDown: Bool) {
    guard isGoingDown != endings.contains(.host) else { return }
    logger.notice(
      isGoingDown ? "The host goes down: no step is begun any more" : "The host does not go down after all")
    hostEnding?.cancel()
    hostEnding = nil
    if isGoingDown {
      endings.insert(.host)
      // That it was called off may not have been heard: the bus may have ended in between.
      hostEnding = EventLoop.shared.schedule(after: Self.powerTimeout, tolerance: .seconds(10)) {
        [weak self] in self?.noteHost(isGoingDown: false)
      }
    } else {
      endings.remove(.host)
    }
    wake.set()
  }

  /// Before the agent's end: no step is begun any more.
  public func end() { endings.insert(.agent) }

  /// At the agent's end: gives back its update locks. Not while something is under way that they were taken for,
  /// nor when the device goes down: nobody is to begin critical work in its last second.
  public func releaseLocks() {
    let isAtWork = inFlight.values.contains { !$0.step.isImageWork && !$0.step.isLockRequest }
    guard !isAtWork, executor.handovers.isEmpty, endings.isDisjoint(with: [.request, .host]) else { return }
    locks.deleteAll()
  }

  /// The apps whose locks work on the whole device needs. As long as it is not known what runs, every
  /// app counts that has a directory for locks.
  public var appsWithLocks: [Int] {
    let apps = currentApps.map(\.appId)
    return current.wasRead ? apps : apps + locks.apps
  }

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
      try await locks.withLocks(appsWithLocks, force: force || host.isLockOverridden) {
        await takeDown(action, force: force, host, outcome)
      }
    } catch let error as UpdateLockError {
      noteLock(error)
      outcome.refusal = .locks(error)
    } catch {
      outcome.refusal = .failed("\(error)")
    }
  }

  private func takeDown(
    _ action: PowerAction, force: Bool, _ host: any StateEngineHost, _ outcome: PowerOutcome
  ) async {
    let event: SystemEvent = action == .reboot ? .reboot : .shutdown
    host.report(event, text: event.humanName, isError: false)
    endings.insert(.request)
    outcome.begin()
    do throws(StepError) {
      try? await EventLoop.shared.sleep(for: Self.powerDelay)
      // The answer to the call is out.
      onShutdown(true)
      switch action {
      case .reboot: try await host.reboot(force: force)
      case .shutdown: try await host.powerOff(force: force)
      }
      try? await EventLoop.shared.sleep(for: Self.powerTimeout)
      outcome.failure = "the system did not go down"
    } catch {
      outcome.failure = error.description
    }
    host.report(event, text: "\(event.humanName) failed: \(outcome.failure ?? "")", isError: true)
    endings.remove(.request)
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
