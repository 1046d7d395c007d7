import Database
import EventLoop
import Glibc
import Logging
import Model

// Starting steps, and what follows when they end.
extension StateEngine {
  /// Starts the step as a task of its own.
  ///
  /// - Returns: false when a step of the same subject is under way, or when the step ends an
  ///   app's work while some of it is still under way. Work on images does not count: it needs no
  ///   lock, and the removal of an old image can take long.
  func begin(_ planned: PlannedStep) -> Bool {
    let subject = planned.subject
    guard inFlight[subject] == nil else { return false }
    if planned.step.endsWork, hasSteps(planned.appId, except: \.isImageWork) { return false }
    if let objection = progress.objection(to: planned) {
      progress.retry(planned)
      failed(planned, .failed(objection))
      return false
    }
    decisions.note(planned, at: .read())
    counters.stepsBegun[planned.step.name, default: 0] += 1
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
    inFlight[subject] = InFlight(appId: planned.appId, step: planned.step, since: .read(), task: task)
    watchForSilence()
    return true
  }

  func completed(_ planned: PlannedStep) {
    progress.completed(planned)
    switch planned.step {
    case .updateCommit(let appId, let commit): commits[appId] = commit
    case .takeLock(let appId, _, _): lockWatchers[appId] = nil
    case .ensureSupervisorNetwork, .ensureExtraFirmwareVolume: deviceDelay.succeed()
    case .start(_, let container?): forgetOwnStops([container.id])
    case .restore(let service): forgetOwnStops([service.container?.id].compactMap(\.self))
    default: break
    }
    changed()
  }

  func failed(_ planned: PlannedStep, _ error: StepError) {
    if case .cancelled = error { return }
    counters.stepsFailed[planned.step.name, default: 0] += 1
    if let appId = planned.appId, intermediate[appId] != nil {
      if actionFailures[appId] == nil { actionFailures[appId] = (planned.step.name, error) }
      return changed()
    }
    isUpdateFailed = true
    noteTrial(planned, error)
    let delay = delayAfterFailure(of: planned.appId)
    if case .lock(let conflict) = error, conflict.isConflict {
      noteLock(conflict)
      awaitRelease(of: conflict)
      let text = "Updates are locked, retrying in \(delay.compactText). Reason: \(conflict)"
      host?.report(.updateLocked, text: text, isError: false)
    } else {
      logger.error(
        "Failed to apply state transition steps. \(error) Steps:[\"\(planned.step.name)\"]; next try in \(delay.humanText)"
      )
    }
    changed()
  }

  /// Steps of an app that fail together count as one failure.
  private func delayAfterFailure(of appId: Int?) -> Duration {
    let now = MonotonicTime.read()
    guard let appId else { return deviceDelay.fail(at: now) }
    var retry = appDelays[appId] ?? RetryDelay(limit: host?.pollInterval ?? .seconds(900))
    if retry.isWaiting(at: now), let retryAt = retry.retryAt { return retryAt - now }
    let delay = retry.fail(at: now)
    appDelays[appId] = retry
    return delay
  }

  /// Says whose lock is in the way, where it is and since when.
  func noteLock(_ error: UpdateLockError) {
    guard case .conflict(let lock) = error else { return }
    lockConflicts[lock.appId] = lock
    changed()
    logger.notice(
      "The update lock \(lock.path) is a \(lock.kind.rawValue) of user \(lock.ownerUid), made \(lock.since)",
      metadata: [
        "APP_ID": "\(lock.appId)", "SERVICE": "\(lock.service)", "LOCK_PATH": "\(lock.path)",
        "LOCK_OWNER": "\(lock.ownerUid)", "LOCK_SINCE": "\(lock.since)",
      ])
  }

  /// Tries again when the lock goes: an app that gives way for a moment is not missed.
  private func awaitRelease(of error: UpdateLockError) {
    guard case .conflict(let lock) = error else { return }
    // Where the kernel has no watch left, the end of the delay is waited for.
    lockWatchers[lock.appId] = try? FileWatcher(lock.path, for: .presence) { [weak self] in
      self?.lookFor(lock)
    }
    // It may have gone before it was watched.
    EventLoop.shared.enqueue { [weak self] in self?.lookFor(lock) }
  }

  private func lookFor(_ lock: LockConflict) {
    var status = stat()
    guard lstat(lock.path, &status) != 0 else { return }
    lockWatchers[lock.appId] = nil
    let now = MonotonicTime.read()
    guard appDelays[lock.appId]?.isWaiting(at: now) == true else { return }
    appDelays[lock.appId]?.hasten(at: now, pause: Self.lockPause)
    wake.set()
  }

  /// Reached: nothing planned, nothing waited for, nothing under way.
  func settle(started: Int) {
    let isImageMissing = plan.apps.values.contains { app in
      app.waiting.contains { if case .imageBackOff = $0.cause { true } else { false } }
    }
    if isImageMissing { isUpdateFailed = true }
    let isDone =
      plan.isSettled && inFlight.isEmpty && started == 0 && intermediate.isEmpty && heldApps.isEmpty
    let busy = Set(plan.steps.compactMap(\.appId) + inFlight.values.compactMap(\.appId))
    for (appId, app) in plan.apps where app.isSettled && !busy.contains(appId) {
      appDelays[appId] = nil
      trials.succeed(app: appId)
      if isDone { progress.forget(app: appId) }
    }
    saveFailures()
    if isDone {
      progress.forgetAll()
      appDelays = appDelays.filter { plan.apps[$0.key] != nil }
      if !deviceDelay.isWaiting(at: .read()) { deviceDelay.succeed() }
    }
    if started == 0, inFlight.isEmpty { noteWaits() }
    guard isDone != isSettled else { return }
    isSettled = isDone
    if isDone {
      pullsWhenSettled = images.pullCount
      forgetGoneStops()
      lockConflicts = [:]
      lockWatchers = [:]
      isForced = false
      isUpdateFailed = false
      logger.info("The target state is reached")
    }
    changed()
  }

  /// Says what apps wait for when nothing is under way that would end the wait: no update stalls
  /// without a stated reason.
  private func noteWaits() {
    for (appId, app) in plan.apps {
      let causes = app.waiting.filter { $0.cause != .paused }.map { waiting in
        waiting.service.map { "\($0) for \(waiting.cause)" } ?? "the app for \(waiting.cause)"
      }
      guard app.waiting.allSatisfy({ $0.cause != .paused }), notedWaits[appId] ?? [] != causes else {
        continue
      }
      notedWaits[appId] = causes.isEmpty ? nil : causes
      guard !causes.isEmpty else { continue }
      logger.notice("Waiting: \(causes.joined(separator: "; "))", metadata: ["APP_ID": "\(appId)"])
    }
    notedWaits = notedWaits.filter { plan.apps[$0.key] != nil }
  }

  func noteDependencyWaits(at now: MonotonicTime) {
    let busy = Set(plan.steps.compactMap(\.appId))
    let waiting = plan.apps.filter { appId, app in
      !busy.contains(appId) && app.waiting.contains { $0.cause.isForDependencies }
    }
    dependencyWaits = Dictionary(
      uniqueKeysWithValues: waiting.keys.map { ($0, dependencyWaits[$0] ?? now) })
  }

  func isImpatient(_ appId: Int, at now: MonotonicTime) -> Bool {
    dependencyWaits[appId].map { $0 + Self.dependencyPatience <= now } ?? false
  }

  func scheduleRetry(after now: MonotonicTime) {
    let times =
      appDelays.values.compactMap(\.retryAt) + dependencyWaits.values.map { $0 + Self.dependencyPatience }
      + [
        deviceDelay.retryAt, images.backOff.nextRetry(after: now), trials.nextCheck,
        trials.nextRetry(after: now), ownStops.nextCheck,
      ]
      .compactMap(\.self)
    guard let next = times.filter({ $0 > now }).min() else { return }
    wakeAfter(next - now)
  }

  func wakeAfter(_ delay: Duration) {
    wakeTimer?.cancel()
    wakeTimer = EventLoop.shared.schedule(after: delay, tolerance: min(delay / 10, Self.retryTolerance)) {
      [unowned self] in wake.set()
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
    case .kill(let service), .stop(let service), .remove(let service), .setAside(let service),
      .restore(let service):
      "service \(service.appId) \(service.name)"
    case .updateMetadata(let service, _), .handover(let service, _):
      "service \(service.appId) \(service.name)"
    }
  }
}

nonisolated extension Step {
  /// What the step may take by its own right: the time that a container has to stop, or the device.
  var grace: Duration {
    switch self {
    case .kill(let service), .stop(let service), .setAside(let service):
      .seconds(service.config.stopGracePeriod)
    case .reboot: StateEngine.powerTimeout
    default: .zero
    }
  }

  /// Steps that may only be done when nothing else of the app is under way but work on images.
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

  /// `500ms`, `4s`, `15m`, `1h`, `2d`: the largest unit alone, as the reference prints it.
  var compactText: String {
    let milliseconds = components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    for (size, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")]
    where milliseconds >= Int64(size) {
      return "\((milliseconds + Int64(size) / 2) / Int64(size))\(unit)"
    }
    return "\(milliseconds)ms"
  }
}
