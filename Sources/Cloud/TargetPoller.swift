import Database
import EventLoop
import HTTPClient
import HostConfiguration
import JSON
import Logging

/// Fetches the target state: one request at a time, by the schedule or when the device's API asks
/// (cloud 2).
///
/// A target counts as delivered when it is stored, and only then its ETag is kept, in the database:
/// after a restart the first poll of a device whose target has not changed is a 304. The ETag
/// belongs to endpoint, device and agent version, and goes when anything else replaces the stored target.
/// A target that is invalid keeps its ETag in memory only, so that it is neither fetched nor reported
/// again until it changes; one that comes again all the same is known by its content.
final class TargetPoller {
  private let client: CloudClient
  private let store: Store
  private unowned let host: any CloudHost
  private let logger: Logger
  private let alarm = Alarm()
  private var schedule: PollSchedule
  private var trigger: Trigger?
  private var rejectedTag: String?
  private var rejectedContent: Int?
  /// What an attempt that failed was to do. Not its force: what was to be stopped in spite of its lock then must not be
  /// hours later, when the network is back.
  private var unserved: Trigger?
  /// When the attempt that is waited for, or under way, has to be over; nil while none is to be made, as on
  /// a device that is not provisioned yet.
  private var deadline: MonotonicTime?
  private var isProblemKnown = false

  /// Called with the configuration of each document, by full name, before it is stored.
  var beforeDelivery: (_ config: [String: String]) -> Void = { _ in }
  /// Asked before each poll: whether the document is to come whole, changed or not.
  var isWholeWanted: () -> Bool = { false }
  /// Called after each exchange that the cloud has answered in full.
  var onContact: () -> Void = {}

  struct Trigger {
    var force = false
    var cancel = false

    mutating func add(_ other: Trigger) {
      force = force || other.force
      cancel = cancel || other.cancel
    }
  }

  /// Bytes of a (decoded) target state; real ones are below 100 KB.
  static let bodyLimit = 8 << 20

  init(_ client: CloudClient, store: Store, host: any CloudHost, logger: Logger) {
    self.client = client
    self.store = store
    self.host = host
    self.logger = logger
    schedule = PollSchedule(interval: client.pollInterval)
  }

  /// Fetches at once, and applies what there is. Calls that come during a fetch are merged into one
  /// more fetch.
  func update(force: Bool, cancel: Bool) {
    var merged = trigger ?? Trigger()
    merged.add(Trigger(force: force, cancel: cancel))
    trigger = merged
    alarm.ring()
  }

  /// Polls until the task is cancelled.
  func run() async {
    defer { deadline = nil }
    var random = SystemRandomNumberGenerator()
    schedule.interval = client.pollInterval
    var delay = schedule.first(
      isTargetStored: host.isTargetStored, isInstant: client.settings.bool(.instantUpdates), using: &random)
    while !Task.isCancelled {
      deadline = .read() + delay + CloudTimes.exchange * 2
      if trigger == nil { await alarm.wait(delay, tolerance: min(delay / 20, .seconds(1))) }
      guard !Task.isCancelled else { return }
      var asked = trigger
      trigger = nil
      alarm.reset()
      if let unserved {
        var merged = asked ?? Trigger()
        merged.add(unserved)
        asked = merged
      }
      unserved = nil
      deadline = .read() + CloudTimes.exchange * 2
      schedule.interval = client.pollInterval
      do throws(CloudFailure) {
        try await poll(asked)
        delay = schedule.succeed(using: &random)
        if isProblemKnown { logger.notice("The cloud answers target state polls again") }
        isProblemKnown = false
      } catch {
        delay = schedule.fail(error.advice, using: &random)
        isProblemKnown = true
        unserved = asked.map { Trigger(cancel: $0.cancel) }
        logger.error("Target state poll failed: \(error); next try in \(delay.seconds) s")
      }
    }
  }

  /// The loop goes round: no attempt is overdue.
  func isAlive(at time: MonotonicTime = .read()) -> Bool { deadline.map { time < $0 } ?? true }

  // MARK: One poll

  private func poll(_ asked: Trigger?) async throws(CloudFailure) {
    let asker = client.identity
    let uuid = client.uuid
    let base = client.base
    let url = CloudAddress.resolve("/device/v3/\(uuid)/state", on: base)
    let tag = isWholeWanted() ? nil : rejectedTag ?? storedTag(endpoint: base, uuid: uuid)
    let answer = try await client.send(
      "GET", url, key: client.deviceKey, headers: tag.map { [("If-None-Match", $0)] } ?? [],
      limit: Self.bodyLimit)
    try client.check(asker)
    switch answer.status {
    case 200: try take(answer, endpoint: base, uuid: uuid, asked: asked)
    case 304 where tag != nil:
      onContact()
      if let asked { host.applyTarget(force: asked.force, cancel: asked.cancel) }
    case 304: throw CloudFailure(status: 304, "Error from the API: 304")
    default: throw client.failure(answer, of: "GET \(CloudClient.path(of: url))")
    }
  }

  func take(
    _ answer: CloudAnswer, endpoint: String, uuid: String, asked: Trigger?
  ) throws(CloudFailure) {
    let document: JSON
    do throws(JSONSyntaxError) { document = try JSON(parsing: answer.body) } catch {
      throw CloudFailure("\(CloudAddress.origin(of: endpoint)): the target state cannot be read: \(error)")
    }
    onContact()
    let content = answer.body.hashValue
    if content == rejectedContent {
      rejectedTag = answer.headers["ETag"]
      if let asked { host.applyTarget(force: asked.force, cancel: asked.cancel) }
      return
    }
    rejectedContent = nil
    let config = document[uuid]?["config"]?.objectValue ?? [:]
    beforeDelivery(
      Dictionary(config.compactMap { name, value in value.stringValue.map { (name, $0) } }) { _, last in last
      })
    let tag = answer.headers["ETag"]
    do throws(TargetRefusal) {
      try host.takeTarget(document, force: asked?.force ?? false)
      rejectedTag = nil
      keep(tag: tag, endpoint: endpoint, uuid: uuid)
    } catch {
      switch error {
      case .invalid:
        rejectedTag = tag
        rejectedContent = content
      case .notStored(let text): throw CloudFailure("the target state cannot be stored: \(text)")
      }
    }
  }

  // MARK: ETag

  private func storedTag(endpoint: String, uuid: String) -> String? {
    guard host.isTargetStored, let text = try? store.settings.text(TargetStore.tagKey),
      let row = try? JSON(parsing: text), row["endpoint"]?.stringValue == endpoint,
      row["uuid"]?.stringValue == uuid, row["version"]?.stringValue == host.version
    else { return nil }
    return row["tag"]?.stringValue
  }

  private func keep(tag: String?, endpoint: String, uuid: String) {
    do throws(DatabaseError) {
      guard let tag else { return try store.settings.remove(TargetStore.tagKey) }
      let row: JSON = [
        "tag": .string(tag), "endpoint": .string(endpoint), "uuid": .string(uuid),
        "version": .string(host.version),
      ]
      try store.settings.set(TargetStore.tagKey, to: row.serialized())
    } catch {
      // The next poll brings the whole document again, which does no harm.
      logger.error("Cannot keep the ETag of the target state: \(error)")
    }
  }

  /// What is stored is not the cloud's target any more: the next poll is to bring it whole.
  func forgetTag() {
    rejectedTag = nil
    rejectedContent = nil
    do throws(DatabaseError) { try store.settings.remove(TargetStore.tagKey) } catch {
      logger.error("Cannot forget the ETag of the target state: \(error)")
    }
  }
}

nonisolated extension Duration {
  /// Whole seconds, for people.
  var seconds: Int { Int(clamping: components.seconds) }
}
