import EventLoop
import Glibc
import HTTP
import JSON
import Model
import StateEngine

// `GET /v2/explain`: what the agent is doing now, what each app waits for, and why.
extension DeviceAPI {
  func explain(_ caller: Caller) -> Response {
    let now = MonotonicTime.read()
    var body: JSONObject = ["appState": engine.isApplying ? "applying" : "applied"]
    body["engine"] = ["reachable": .bool(engine.engineProblem == nil), "problem": JSON(engine.engineProblem)]
    if caller.isUnrestricted {
      body["device"] = ["steps": .array(engine.deviceSteps.map(Self.step))]
    }
    body["apps"] = .array(
      engine.explanations.filter { caller.covers($0.appId) }.map { explain($0, at: now) })
    body["decisions"] = .array(
      engine.decisions.decisions.reversed()
        .filter { $0.appId.map(caller.covers) ?? caller.isUnrestricted }
        .map { Self.decision($0, at: now) })
    return .success(body)
  }

  private func explain(_ app: AppExplanation, at now: MonotonicTime) -> JSON {
    var members: JSONObject = ["appId": .int(app.appId), "name": .string(app.name)]
    members["commit"] = ["current": JSON(app.currentCommit), "target": JSON(app.targetCommit)]
    members["settled"] = .bool(app.isSettled)
    members["rejected"] = .bool(app.isRejected)
    members["steps"] = .array(app.steps.map(Self.step))
    members["waiting"] = .array(app.waiting.map { explain($0, at: now) })
    if app.failures > 0 {
      members["retry"] = ["failures": .int(app.failures), "at": Self.time(app.retryAt, now: now)]
    }
    if let lock = app.lock { members["lock"] = Self.lock(lock) }
    return .object(members)
  }

  private func explain(_ waiting: Waiting, at now: MonotonicTime) -> JSON {
    var members: JSONObject = ["service": JSON(waiting.service), "for": .string("\(waiting.cause)")]
    switch waiting.cause {
    case .download(let image):
      members["image"] = .string(image)
      members["progress"] = engine.images.activities[image].map { .int($0.progress) } ?? .null
    case .imageBackOff(let image):
      members["image"] = .string(image)
      members["retryAt"] = Self.time(engine.retryTime(ofImage: image), now: now)
      members["reason"] = JSON(engine.images.faults[image]?.text)
    default: break
    }
    return .object(members)
  }

  private static func step(_ step: RunningStep) -> JSON {
    ["step": .string(step.step), "subject": .string(step.subject)]
  }

  static func lock(_ lock: LockConflict) -> JSON {
    [
      "appId": .int(lock.appId), "service": .string(lock.service), "path": .string(lock.path),
      "kind": .string(lock.kind.rawValue), "ownerUid": .int(Int(lock.ownerUid)),
      "since": .string(lock.since.description),
    ]
  }

  static func decision(_ decision: DecisionLog.Decision, at now: MonotonicTime) -> JSON {
    [
      "sequence": .int(Int(clamping: decision.sequence)), "at": time(decision.time, now: now),
      "step": .string(decision.step), "appId": decision.appId.map(JSON.int) ?? .null,
      "service": JSON(decision.service), "reason": .string(decision.reason),
    ]
  }

  /// A time of the monotonic clock as wall-clock time.
  static func time(_ time: MonotonicTime?, now: MonotonicTime) -> JSON {
    guard let time else { return .null }
    var wall = timespec()
    clock_gettime(CLOCK_REALTIME, &wall)
    let offset = (time - now).components.seconds
    return .string(Timestamp(seconds: Int64(wall.tv_sec) + offset).description)
  }
}
