import Database
import Engine
import EventLoop
import Glibc
import Logging
import Model

// Updates that are taken back when the new containers do not work (docs/rollback.md).
extension StateEngine {
  /// Updates that failed and were taken back, until they succeed or the app's target changes.
  public var failedUpdates: [FailedUpdate] { trials.failedUpdates }

  /// - Returns: what is known of containers whose predecessor is kept.
  func judgeTrials(of targetApps: [App], at now: MonotonicTime) -> [String: Proof] {
    var targets: [CurrentState.ServiceKey: Service] = [:]
    for service in targetApps.flatMap(\.services) where service.wantsProof {
      targets[CurrentState.ServiceKey(appId: service.appId, service: service.name)] = service
    }
    let (proofs, failed) = trials.judge(
      current: current.services.values.filter { !isEndOurs($0) }, targets: targets, at: now,
      hasEnded: diedContainers.contains)
    for (service, reason) in failed { failTrial(service, reason, at: now) }
    return proofs
  }

  /// A new container that cannot be created or started has failed. An engine that cannot be
  /// reached says nothing about it.
  func noteTrial(_ planned: PlannedStep, _ error: StepError) {
    guard case .start(let target, _) = planned.step, target.wantsProof,
      UpdateTrials.canGoBack(target.appId, in: Array(current.services.values))
    else { return }
    switch error {
    case .engine(let error):
      guard error.statusCode != nil else { return }
      failTrial(target, "it cannot be started: \(error.message)", at: .read())
    case .model(let error): failTrial(target, "it cannot be created: \(error)", at: .read())
    default: break
    }
  }

  private func failTrial(_ service: Service, _ reason: String, at now: MonotonicTime) {
    guard trials.waiting(at: now)[service.appId] == nil,
      let target = storedTarget.first(where: { $0.appId == service.appId })
    else { return }
    let update = trials.fail(target, "\(service.name): \(reason)", at: now)
    saveFailures()
    isUpdateFailed = true
    let text = SystemEvent.updateTakenBack.text(
      object: "\(update.commit ?? "")", cause: update.reason)
    host?.report(.updateTakenBack, text: text, isError: true)
    changed()
  }

  // MARK: - In the database

  /// To be called before the target is first compared with what failed.
  func loadFailures() {
    do throws(DatabaseError) {
      trials.load(try store.failedUpdates.all(), at: .read(), clock: time(nil))
    } catch {
      logger.error("Cannot read which updates were taken back: \(error)")
    }
  }

  func saveFailures() {
    guard trials.isUnsaved else { return }
    do throws(DatabaseError) {
      try store.failedUpdates.replace(with: trials.save(at: .read(), clock: time(nil)))
    } catch {
      logger.error("Cannot store which updates were taken back: \(error)")
    }
  }
}
