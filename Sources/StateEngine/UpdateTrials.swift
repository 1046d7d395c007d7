import Database
import EventLoop
import JSON
import Model

/// An update that was taken back, and why.
public nonisolated struct FailedUpdate: Sendable, Hashable {
  public var appId: Int
  /// The release that failed.
  public var commit: String?
  public var reason: String
  /// How often it was tried.
  public var tries: Int
}

/// Watches new containers whose predecessors are kept, and remembers which updates failed
/// (docs/rollback.md).
///
/// A container with a health check has proven itself when it is healthy, one without when it has
/// run for a while or has ended with exit code 0. It has failed when it cannot be created or
/// started, ends by itself, is unhealthy, or is not healthy in time. After a restart of the agent a
/// trial begins anew; what failed is kept in the database.
struct UpdateTrials {
  /// A container without a health check has to run this long.
  static let runningTime = Duration.seconds(10)
  /// A container with a health check has this long, unless its own settings take longer.
  static let healthTime = Duration.seconds(60)
  /// Between two tries of an update that failed: this long, twice as long each time, at most the
  /// limit.
  static let firstRetry = Duration.seconds(3600)
  static let retryLimit = Duration.seconds(86400)

  private struct Trial {
    let since: MonotonicTime
    let startedAt: String?
  }

  private struct Failure {
    var update: FailedUpdate
    var target: StoredTargetApp
    var retryAt: MonotonicTime
  }

  private var trials: [String: Trial] = [:]
  /// Containers that count as proven, whatever becomes of them.
  private var accepted: Set<String> = []
  private var failures: [Int: Failure] = [:]
  /// What failed is not as it is in the database.
  private(set) var isUnsaved = false
  /// When the next container has proven itself, or has not.
  private(set) var nextCheck: MonotonicTime?

  var failedUpdates: [FailedUpdate] { failures.values.map(\.update).sorted { $0.appId < $1.appId } }

  /// Why apps' targets are not tried at the moment, by app id.
  func waiting(at now: MonotonicTime) -> [Int: String] {
    failures.filter { $0.value.retryAt > now }.mapValues(\.update.reason)
  }

  func nextRetry(after now: MonotonicTime) -> MonotonicTime? {
    failures.values.map(\.retryAt).filter { $0 > now }.min()
  }

  /// Whether an update may fail: some service of the app can go back.
  static func canGoBack(_ appId: Int, in current: [Service]) -> Bool {
    current.contains { $0.appId == appId && $0.container?.setAsidePolicy != nil }
  }

  /// A target that changed is tried at once.
  mutating func forget(unless targets: [StoredTargetApp]) {
    let kept = failures.filter { failure in targets.contains { $0.means(failure.value.target) } }
    isUnsaved = isUnsaved || kept.count < failures.count
    failures = kept
  }

  /// The app has arrived.
  mutating func succeed(app appId: Int) {
    if failures.removeValue(forKey: appId) != nil { isUnsaved = true }
  }

  /// A user stops the container: its end says nothing.
  mutating func accept(_ containerId: String) { accepted.insert(containerId) }

  mutating func fail(_ target: StoredTargetApp, _ reason: String, at now: MonotonicTime) -> FailedUpdate {
    var failure =
      failures[target.appId]
      ?? Failure(
        update: FailedUpdate(appId: target.appId, commit: target.commit, reason: "", tries: 0),
        target: target, retryAt: now)
    failure.update.reason = reason
    failure.update.tries += 1
    failure.retryAt = now + Self.delay(afterTries: failure.update.tries)
    failures[target.appId] = failure
    isUnsaved = true
    return failure.update
  }

  private static func delay(afterTries tries: Int) -> Duration {
    min(firstRetry * (1 << min(max(tries - 1, 0), 10)), retryLimit)
  }

  // MARK: - In the database

  /// What failed, for the database.
  ///
  /// - Parameter clock: seconds since 1970 at `now`.
  mutating func save(at now: MonotonicTime, clock: Int) -> [StoredFailure] {
    isUnsaved = false
    return failures.values.map { failure in
      StoredFailure(
        appId: failure.update.appId, target: failure.target.text, reason: failure.update.reason,
        tries: failure.update.tries,
        retryAt: clock + Int(clamping: (failure.retryAt - now).components.seconds))
    }
  }

  /// Takes up what failed before the agent ended. No clock, however wrong it is or was, makes an app wait
  /// for longer than if it had failed just now.
  mutating func load(_ stored: [StoredFailure], at now: MonotonicTime, clock: Int) {
    for failure in stored {
      guard let target = StoredTargetApp(text: failure.target) else { continue }
      let (rest, overflow) = failure.retryAt.subtractingReportingOverflow(clock)
      let delay = Self.delay(afterTries: failure.tries)
      let wait = overflow ? delay : min(.seconds(max(rest, 0)), delay)
      let update = FailedUpdate(
        appId: target.appId, commit: target.commit, reason: failure.reason, tries: failure.tries)
      failures[target.appId] = Failure(update: update, target: target, retryAt: now + wait)
    }
  }

  /// Looks at the containers on trial.
  ///
  /// - Parameters:
  ///   - current: all containers.
  ///   - targets: the target services by app and name.
  ///   - hasEnded: whether a container is known to have ended by itself.
  /// - Returns: what is known of each, and those that failed, with the reason.
  mutating func judge(
    current: [Service], targets: [CurrentState.ServiceKey: Service], at now: MonotonicTime,
    hasEnded: (String) -> Bool
  ) -> (proofs: [String: Proof], failed: [(service: Service, reason: String)]) {
    nextCheck = nil
    var proofs: [String: Proof] = [:]
    var failed: [(service: Service, reason: String)] = []
    var seen: [String: Trial] = [:]
    let kept = Set(
      current.filter { $0.container?.setAsidePolicy != nil }
        .map { CurrentState.ServiceKey(appId: $0.appId, service: $0.name) })
    for service in current {
      let key = CurrentState.ServiceKey(appId: service.appId, service: service.name)
      guard let container = service.container, container.setAsidePolicy == nil, kept.contains(key),
        let target = targets[key], service.commit == target.commit,
        service.config.image == target.config.image, container.status != .installed
      else { continue }
      if accepted.contains(container.id) {
        proofs[container.id] = .proven
        continue
      }
      let trial = trials[container.id] ?? Trial(since: now, startedAt: container.startedAt)
      seen[container.id] = trial
      switch judge(container, target, trial, at: now, hasEnded: hasEnded(container.id)) {
      case .proof(let proof): proofs[container.id] = proof
      case .failure(let reason): failed.append((service, reason))
      }
    }
    trials = seen
    accepted = accepted.filter { id in current.contains { $0.container?.id == id } }
    return (proofs, failed)
  }

  private enum Verdict {
    case proof(Proof)
    case failure(String)
  }

  private mutating func judge(
    _ container: Service.Container, _ target: Service, _ trial: Trial, at now: MonotonicTime,
    hasEnded: Bool
  ) -> Verdict {
    if container.status == .engine("exited") {
      return container.exitCode == 0
        ? .proof(.proven) : .failure("it ended with exit code \(container.exitCode.map(String.init) ?? "?")")
    }
    guard container.status == .running else { return .proof(.pending) }
    if hasEnded || container.startedAt != trial.startedAt {
      return .failure("it ended and was started again")
    }
    let limit: Duration
    switch container.health {
    case .healthy: return .proof(.proven)
    case .unhealthy: return .failure("its health check fails")
    case .starting: limit = max(Self.healthTime, target.config.healthcheck.longestVerdict)
    case nil: limit = Self.runningTime
    }
    guard now - trial.since >= limit else {
      let check = trial.since + limit
      nextCheck = nextCheck.map { min($0, check) } ?? check
      return .proof(.pending)
    }
    return container.health == nil
      ? .proof(.proven) : .failure("it was not healthy within \(limit.humanText)")
  }
}

nonisolated extension StoredTargetApp {
  /// All that the row says.
  fileprivate var text: String {
    let row: JSON = [
      "appId": .int(appId), "uuid": .string(uuid), "name": .string(name), "class": .string(appClass),
      "isHost": .bool(isHost), "isRejected": .bool(isRejected), "source": .string(source),
      "commit": commit.map(JSON.string) ?? .null, "releaseId": releaseId.map(JSON.int) ?? .null,
      "services": .string(services), "networks": .string(networks), "volumes": .string(volumes),
    ]
    return row.serialized()
  }

  fileprivate init?(text: String) {
    guard let row = try? JSON(parsing: text), let appId = row["appId"]?.intValue,
      let uuid = row["uuid"]?.stringValue, let name = row["name"]?.stringValue,
      let appClass = row["class"]?.stringValue, let isHost = row["isHost"]?.boolValue,
      let isRejected = row["isRejected"]?.boolValue, let source = row["source"]?.stringValue,
      let services = row["services"]?.stringValue, let networks = row["networks"]?.stringValue,
      let volumes = row["volumes"]?.stringValue
    else { return nil }
    self.init(
      appId: appId, uuid: uuid, name: name, appClass: appClass, isHost: isHost, isRejected: isRejected,
      source: source, commit: row["commit"]?.stringValue, releaseId: row["releaseId"]?.intValue,
      services: services, networks: networks, volumes: volumes)
  }
}

nonisolated extension Healthcheck {
  /// How long the engine may take from a start to a verdict, with its own defaults.
  var longestVerdict: Duration {
    let interval = interval.map { Duration.nanoseconds(Int64($0)) } ?? .seconds(30)
    let timeout = timeout.map { Duration.nanoseconds(Int64($0)) } ?? .seconds(30)
    let start = Duration.nanoseconds(Int64(startPeriod ?? 0))
    return start + (interval + timeout) * (max(retries ?? 3, 1) + 1)
  }
}
