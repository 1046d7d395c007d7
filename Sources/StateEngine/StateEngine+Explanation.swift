import Engine
public import EventLoop
import Model

/// What was done since the start, for metrics.
public nonisolated struct StateEngineCounters: Sendable {
  /// Plans that were made; a device at rest makes none.
  public var plans = 0
  /// By the step's name.
  public var stepsBegun: [String: Int] = [:]
  public var stepsFailed: [String: Int] = [:]
  /// Services that ended by themselves and were started again by the engine.
  public var serviceRestarts = 0
}

/// What is being done for an app, and what it waits for.
public nonisolated struct AppExplanation: Sendable {
  public var appId: Int
  public var name: String
  /// Stored for what runs, and wanted by the target.
  public var currentCommit: String?
  public var targetCommit: String?
  public var isSettled: Bool
  public var isRejected: Bool
  /// Steps that are under way.
  public var steps: [RunningStep]
  public var waiting: [Waiting]
  /// When what failed is tried again, and how often it has failed in a row.
  public var retryAt: MonotonicTime?
  public var failures: Int
  /// The user's lock that was in the way last.
  public var lock: LockConflict?
}

public nonisolated struct RunningStep: Sendable {
  public var step: String
  public var subject: String
}

extension StateEngine {
  /// The target is not reached.
  public var isUpdatePending: Bool { isTargetSet && !isSettled }

  /// Images of the target that is not reached yet have been downloaded.
  public var isUpdateDownloaded: Bool { isUpdatePending && images.pullCount > pullsWhenSettled }

  /// Calls to the engine, and those that failed, since the start.
  public var engineCalls: (count: Int, failures: Int) { (engine.callCount, engine.failureCount) }

  /// The lock of a user that is in the way of an app now.
  public func lockConflict(of appId: Int) -> LockConflict? {
    guard let lock = lockConflicts[appId], plan.apps[appId]?.isSettled == false else { return nil }
    return lock
  }

  /// By app id.
  public var explanations: [AppExplanation] {
    let targets = Dictionary(targetOutlines.map { ($0.appId, $0) }) { first, _ in first }
    let currents = Dictionary(currentApps.map { ($0.appId, $0) }) { first, _ in first }
    return Set(targets.keys).union(currents.keys).sorted().map { appId in
      let progress = plan.apps[appId]
      let delay = appDelays[appId]
      let target = targets[appId]
      return AppExplanation(
        appId: appId, name: target?.name ?? currents[appId]?.name ?? "",
        currentCommit: commits[appId], targetCommit: target?.commit,
        isSettled: progress?.isSettled ?? true, isRejected: target?.isRejected ?? false,
        steps: steps { $0 == appId }, waiting: progress?.waiting ?? [], retryAt: delay?.retryAt,
        failures: delay?.failures ?? 0, lock: lockConflict(of: appId))
    }
  }

  /// Steps of no app.
  public var deviceSteps: [RunningStep] { steps { $0 == nil } }

  private func steps(_ isWanted: (Int?) -> Bool) -> [RunningStep] {
    inFlight.filter { isWanted($0.value.appId) }
      .map { RunningStep(step: $0.value.step.name, subject: $0.key) }
      .sorted { ($0.subject, $0.step) < ($1.subject, $1.step) }
  }

  /// When an image whose download failed is tried again.
  public func retryTime(ofImage name: String) -> MonotonicTime? { images.backOff.retryTime(of: name) }
}
