import Database
import EventLoop
import Glibc
import HTTP
import JSON
import Model
import StateEngine

/// What happens on the device, as a list of events with numbers.
///
/// The state engine says only that something has changed. Some time after that, so that a burst is
/// seen once, the feed compares what it shows with what it showed before; each difference is an
/// event, each kept in a ring of bounded size, so that a client that lost its connection can go on
/// where it was. Nobody listening for a while, nothing is compared and nothing kept.
final class EventFeed {
  struct Event {
    let number: UInt64
    let name: String
    /// nil for the device as a whole.
    let appId: Int?
    let data: JSON
  }

  /// Events that are kept for clients that come back.
  static let capacity = 512
  /// Changes within this time are looked at together.
  static let window = Duration.milliseconds(100)
  /// The feed stops this long after its last listener has gone.
  static let patience = Duration.seconds(300)
  /// Clients at the same time; each has a connection for as long as it likes.
  static let listenerLimit = 16

  /// Differs from that of an earlier process, whose numbers mean nothing here.
  let run: String
  private let engine: StateEngine
  private var ring: [Event] = []
  private var next: UInt64 = 1
  private var isRunning = false
  private var timer: LoopTimer?
  private var end: LoopTimer?
  private var waiters: [CheckedContinuation<Void, Never>] = []
  private var listeners = 0
  let places = StreamPlaces(limit: listenerLimit)

  // What has been shown.
  private var appState: String?
  private var services: [String: (appId: Int, data: JSON)] = [:]
  private var images: [String: (appId: Int?, data: JSON)] = [:]
  private var locks: [Int: LockConflict] = [:]
  private var nextDecision: UInt64 = 0

  init(_ engine: StateEngine) {
    self.engine = engine
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    run = String(UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec), radix: 36)
  }

  // MARK: Listeners

  func enter() {
    listeners += 1
    end?.cancel()
    guard !isRunning else { return }
    isRunning = true
    nextDecision = (engine.decisions.decisions.last?.sequence).map { $0 + 1 } ?? 0
    compare()
  }

  func leave() {
    listeners -= 1
    guard listeners == 0 else { return }
    if let end { return end.restart(after: Self.patience) }
    end = EventLoop.shared.schedule(after: Self.patience, tolerance: Self.patience / 2) {
      [unowned self] in stop()
    }
  }

  private func stop() {
    guard listeners == 0 else { return }
    isRunning = false
    timer?.cancel()
    ring = []
    (services, images, locks, appState) = ([:], [:], [:], nil)
  }

  /// Number of the next event.
  var position: UInt64 { next }

  /// Events from a number on; nil when some of them are gone.
  func events(from number: UInt64) -> ArraySlice<Event>? {
    let first = next - UInt64(ring.count)
    guard number >= first, number <= next else { return nil }
    return ring[Int(number - first)...]
  }

  /// Returns when there may be new events.
  func change() async { await withCheckedContinuation { waiters.append($0) } }

  /// Lets all waiters look again.
  func wake() {
    let all = waiters
    waiters = []
    for waiter in all { waiter.resume() }
  }

  // MARK: Events

  /// The state engine has changed.
  func note() {
    guard isRunning, timer?.isScheduled != true else { return }
    if let timer { return timer.restart(after: Self.window) }
    timer = EventLoop.shared.schedule(after: Self.window, tolerance: Self.window) { [unowned self] in
      compare()
    }
  }

  /// Everything as it is now, for a client that comes for the first time.
  func snapshot(covers: (Int) -> Bool) -> JSON {
    [
      "appState": .string(appState ?? "applied"),
      "services": .array(
        services.sorted { $0.key < $1.key }.map(\.value).filter { covers($0.appId) }.map(\.data)),
      "images": .array(
        images.sorted { $0.key < $1.key }.map(\.value).filter { $0.appId.map(covers) ?? false }.map(\.data)),
      "locks": .array(
        locks.sorted { $0.key < $1.key }.filter { covers($0.key) }.map { DeviceAPI.lock($0.value) }),
    ]
  }

  private func add(_ name: String, _ appId: Int?, _ data: JSON) {
    ring.append(Event(number: next, name: name, appId: appId, data: data))
    if ring.count > Self.capacity { ring.removeFirst(ring.count - Self.capacity) }
    next += 1
  }

  private func compare() {
    guard isRunning else { return }
    let before = next
    let report = engine.report
    addDecisions()
    compare(locks: report)
    compare(services: report)
    compare(images: report)
    let state = engine.isApplying ? "applying" : "applied"
    if state != appState {
      appState = state
      add("state", nil, ["appState": .string(state)])
    }
    if next != before { wake() }
  }

  private func addDecisions() {
    let now = MonotonicTime.read()
    for decision in engine.decisions.decisions where decision.sequence >= nextDecision {
      add("decision", decision.appId, DeviceAPI.decision(decision, at: now))
      nextDecision = decision.sequence + 1
    }
  }

  private func compare(services report: StatusReport) {
    var seen: [String: (appId: Int, data: JSON)] = [:]
    for service in report.containers {
      let data: JSON = [
        "appId": .int(service.appId), "service": .string(service.name), "commit": JSON(service.commit),
        "containerId": JSON(service.container?.id), "status": JSON(service.container?.status.text),
      ]
      let key = "\(service.appId) \(service.name) \(service.container?.id ?? "")"
      seen[key] = (service.appId, data)
      if services[key]?.data != data { add("service", service.appId, data) }
    }
    for (key, gone) in services where seen[key] == nil {
      var data = gone.data.objectValue ?? [:]
      data["status"] = "removed"
      add("service", gone.appId, .object(data))
    }
    services = seen
  }

  private func compare(images report: StatusReport) {
    var seen: [String: (appId: Int?, data: JSON)] = [:]
    for image in report.images {
      let data: JSON = [
        "name": .string(image.image.name), "appId": image.image.appId.map(JSON.int) ?? .null,
        "service": JSON(image.image.serviceName), "status": .string(image.status.rawValue),
        "progress": image.progress.map(JSON.int) ?? .null,
      ]
      let key = "\(image.image.name) \(image.image.appId ?? 0) \(image.image.serviceName ?? "")"
      seen[key] = (image.image.appId, data)
      if images[key]?.data != data { add("image", image.image.appId, data) }
    }
    for (key, gone) in images where seen[key] == nil {
      var data = gone.data.objectValue ?? [:]
      data["status"] = "Removed"
      add("image", gone.appId, .object(data))
    }
    images = seen
  }

  private func compare(locks report: StatusReport) {
    var seen: [Int: LockConflict] = [:]
    for appId in Set(report.containers.map(\.appId) + report.targets.map(\.appId)) {
      guard let lock = engine.lockConflict(of: appId) else { continue }
      seen[appId] = lock
      if locks[appId] != lock { add("lock", appId, DeviceAPI.lock(lock)) }
    }
    for appId in locks.keys where seen[appId] == nil { add("unlock", appId, ["appId": .int(appId)]) }
    locks = seen
  }
}
