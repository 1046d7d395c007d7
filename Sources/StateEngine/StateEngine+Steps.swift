import Database
import EventLoop
import Logging
import Model

// Starting steps, and what follows when they end.
extension StateEngine {
  /// Starts the step as a task of its own.
  ///
  /// - Returns: false when a step of the same subject is under way, or when the step ends an
  ///   app's work while some of it is still under way.
  func begin(_ planned: PlannedStep) -> Bool {
    let subject = planned.subject
    guard inFlight[subject] == nil else { return false }
    if planned.step.endsWork, inFlight.values.contains(where: { $0.appId == planned.appId }) { return false }
    guard isProgress(planned, subject) else { return false }
    decisions.note(planned, at: .read())
    let task = Task {
      do throws(StepError) {
        try await executor.execute(planned)
        completed(planned)
      } catch {
        failed(planned, error)
      }
      inFlight[subject] = nil
      wake.set()
    }
    inFlight[subject] = InFlight(appId: planned.appId, step: planned.step, task: task)
    return true
  }

  /// A step that is planned again and again although it was done each time does not bring the
  /// device forward; from then on its app waits between two tries, as after a failure.
  func isProgress(_ planned: PlannedStep, _ subject: String) -> Bool {
    guard let last = repeats[subject], last.planned == planned, last.count >= Self.repeatLimit else {
      return true
    }
    repeats[subject] = (planned, Self.repeatLimit - 1)
    failed(planned, .failed("done \(Self.repeatLimit) times and still needed (\(planned.reason))"))
    return false
  }

  func completed(_ planned: PlannedStep) {
    // A pull counts its failures itself.
    if case .fetch = planned.step {
    } else {
      let subject = planned.subject
      let count = repeats[subject].map { $0.planned == planned ? $0.count + 1 : 1 } ?? 1
      repeats[subject] = (planned, count)
    }
    switch planned.step {
    case .updateCommit(let appId, let commit): commits[appId] = commit
    case .ensureSupervisorNetwork, .ensureExtraFirmwareVolume: deviceDelay.succeed()
    default: break
    }
    changed()
  }

  func failed(_ planned: PlannedStep, _ error: StepError) {
    if case .cancelled = error { return }
    if let appId = planned.appId, intermediate[appId] != nil {
      if actionFailures[appId] == nil { actionFailures[appId] = (planned.step.name, error) }
      return changed()
    }
    isUpdateFailed = true
    let delay: Duration
    if let appId = planned.appId {
      var retry = appDelays[appId] ?? RetryDelay(limit: host?.pollInterval ?? .seconds(900))
      delay = retry.fail(at: .read())
      appDelays[appId] = retry
    } else {
      delay = deviceDelay.fail(at: .read())
    }
    if case .lock(let conflict) = error {
      noteLock(conflict)
      let text =
        "Updates are locked, retrying in \(delay.humanText). Reason: \(conflict)"
      host?.report(.updateLocked, text: text, isError: false)
    } else {
      logger.error(
        "Failed to apply state transition steps. \(error) Steps:[\"\(planned.step.name)\"]; next try in \(delay.humanText)"
      )
    }
    changed()
  }

  /// Says whose lock is in the way, where it is and since when.
  func noteLock(_ error: UpdateLockError) {
    guard case .conflict(let lock) = error else { return }
    logger.notice(
      "The update lock \(lock.path) is a \(lock.kind.rawValue) of user \(lock.ownerUid), made \(lock.since)",
      metadata: [
        "APP_ID": "\(lock.appId)", "SERVICE": "\(lock.service)", "LOCK_PATH": "\(lock.path)",
        "LOCK_OWNER": "\(lock.ownerUid)", "LOCK_SINCE": "\(lock.since)",
      ])
  }

  /// Reached: nothing planned, nothing waited for, nothing under way.
  func settle(started: Int) {
    let isDone =
      plan.isSettled && inFlight.isEmpty && started == 0 && intermediate.isEmpty && heldApps.isEmpty
    for (appId, progress) in plan.apps where progress.isSettled { appDelays[appId] = nil }
    if isDone { repeats = [:] }
    guard isDone != isSettled else { return }
    isSettled = isDone
    if isDone {
      isForced = false
      isUpdateFailed = false
      logger.info("The target state is reached")
    }
    changed()
  }

  func scheduleRetry(after now: MonotonicTime) {
    let times =
      appDelays.values.compactMap(\.retryAt)
      + [deviceDelay.retryAt, images.backOff.nextRetry(after: now)]
      .compactMap(\.self)
    guard let next = times.filter({ $0 > now }).min() else { return }
    wakeAfter(next - now)
  }

  func wakeAfter(_ delay: Duration) {
    wakeTimer?.cancel()
    wakeTimer = EventLoop.shared.schedule(after: delay, tolerance: delay / 10) { [unowned self] in wake.set()
    }
  }
}

nonisolated extension PlannedStep {
  /// What the step changes; two steps of one subject never run together.
  var subject: String {
    switch step {
    case .ensureSupervisorNetwork, .ensureExtraFirmwareVolume, .cleanUpImages, .reboot, .requireReboot:
      step.name
    case .fetch(let row), .saveImage(let row, _), .removeImage(let row, _): "image \(row.name)"
    case .createNetwork(let network), .removeNetwork(let network):
      "network \(network.appId) \(network.name)"
    case .createVolume(let volume), .removeVolume(let volume): "volume \(volume.appId) \(volume.name)"
    case .takeLock(let appId, _, _), .releaseLock(let appId): "lock \(appId)"
    case .updateCommit(let appId, _): "commit \(appId)"
    case .start(let target, _): "service \(target.appId) \(target.name)"
    case .kill(let service), .stop(let service), .remove(let service):
      "service \(service.appId) \(service.name)"
    case .updateMetadata(let service, _), .handover(let service, _):
      "service \(service.appId) \(service.name)"
    }
  }
}

nonisolated extension Step {
  /// Steps that may only be done when nothing else of the app is under way.
  var endsWork: Bool {
    switch self {
    case .releaseLock, .updateCommit: true
    default: false
    }
  }
}

nonisolated extension Duration {
  /// `1 second`, `90 seconds`, `15 minutes`: for people.
  var humanText: String {
    let seconds = max(1, Int(clamping: components.seconds))
    if seconds < 120 { return seconds == 1 ? "1 second" : "\(seconds) seconds" }
    return "\(seconds / 60) minutes"
  }
}
