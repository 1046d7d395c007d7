import EventLoop
import Logging

// An engine that takes requests and does not answer. A call to it ends by its own limit, minutes
// later for some; a user hears of it long before.
extension StateEngine {
  /// A look, or a step beyond what it may take by its own right, is said to be late after this long.
  static let silenceLimit = Duration.seconds(30)

  /// Call when something has begun that the engine has to answer.
  func watchForSilence() {
    guard silenceTimer == nil else { return }
    silenceTimer = EventLoop.shared.schedule(after: Self.silenceLimit, tolerance: .seconds(1)) {
      [unowned self] in
      silenceTimer = nil
      checkForSilence(at: .read())
    }
  }

  /// Call when a look has ended: a device at rest is not woken up.
  func endWatchForSilence() {
    guard lookStart == nil, inFlight.isEmpty else { return }
    silenceTimer?.cancel()
    silenceTimer = nil
  }

  private func checkForSilence(at now: MonotonicTime) {
    let limit = Self.silenceLimit
    if let lookStart, now - lookStart >= limit, engineProblem == nil {
      noteEngineProblem("it has not answered for \(limit.humanText)")
    }
    for (subject, work) in inFlight where work.step.isAnsweredByEngine && !work.isSaidToBeLate {
      let time = now - work.since
      guard time >= limit + work.step.grace else { continue }
      inFlight[subject]?.isSaidToBeLate = true
      logger.warning(
        "The engine has not ended the step \(work.step.name) of the \(subject) for \(time.humanText)")
      // Whether it answers at all is found out by a look at everything.
      current.invalidate()
      wake.set()
    }
    if lookStart != nil || !inFlight.isEmpty { watchForSilence() }
  }
}

nonisolated extension Step {
  /// A pull has its own watch; locks, the database and the host are not the engine's.
  fileprivate var isAnsweredByEngine: Bool {
    switch self {
    case .fetch, .takeLock, .releaseLock, .updateCommit, .requireReboot, .reboot: false
    default: true
    }
  }
}
