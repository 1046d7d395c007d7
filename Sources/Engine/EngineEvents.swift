import DequeModule
import EventLoop
import Glibc
import JSON

/// Something that happened on the engine.
public nonisolated struct EngineEvent: Hashable, Sendable {
  /// `container`, `image`, `network`, `volume`, `daemon` …
  public let type: String
  /// `create`, `start`, `die`, `destroy` … (`exec_start: …` carries its command after the colon.)
  public let action: String
  /// Id of a container or network, name of a volume or image.
  public let id: String
  /// A container's name, image, exit code and labels.
  public let attributes: [String: String]
  /// Nanoseconds since 1970.
  public let time: Int

  init?(_ json: JSON) {
    // Older engines spell it `status` and `id`, and newer ones have dropped those.
    guard let action = json["Action"]?.stringValue ?? json["status"]?.stringValue else { return nil }
    self.action = action
    type = json["Type"]?.stringValue ?? "container"
    id = json["Actor"]?["ID"]?.stringValue ?? json["id"]?.stringValue ?? ""
    attributes = stringMap(json["Actor"]?["Attributes"])
    let seconds = json["time"]?.intValue ?? 0
    let (nanoseconds, isTooLarge) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    time = json["timeNano"]?.intValue ?? (isTooLarge ? 0 : nanoseconds)
  }
}

/// The engine's event stream, kept alive.
///
/// Reading it does the work: there is no task of its own, and no wake-up while the engine is
/// silent. A lost connection is made again after a second, then after pauses that double up to
/// half a minute, with jitter. The engine remembers a few hundred events and forgets them when
/// it is restarted; we ask for those since the last one seen, but nobody can know whether that
/// was all, so each reconnection is reported as a gap, and the reader reads everything again.
public final class EngineEvents {
  public nonisolated enum Item: Hashable, Sendable {
    /// The stream stands; what happens from now on is reported.
    case connected
    /// Events may have been missed since the last one. Follows `connected`, after a reconnection.
    case gap
    case event(EngineEvent)
    /// The stream was lost, or could not be made; it is being tried again. Reported once.
    case disconnected(EngineError)
  }

  private nonisolated static let firstPause = Duration.seconds(1)
  private nonisolated static let longestPause = Duration.seconds(30)

  private let engine: EngineClient
  private let filters: [String: [String]]
  /// Nanoseconds since 1970 of the first event to ask for.
  private var since: Int
  private var lines: JSONLines?
  private var pending = Deque<Item>()
  private var failures = 0
  private var wasConnected = false

  init(_ engine: EngineClient, filters: [String: [String]], since: Double?) {
    self.engine = engine
    self.filters = filters
    self.since = since.map { Int($0 * 1e9) } ?? Self.wallClock()
  }

  /// The next item, whenever it comes; nil when the task is cancelled.
  public func next() async -> Item? {
    while !Task.isCancelled {
      if let item = pending.popFirst() { return item }
      if let lines {
        await read(lines)
      } else {
        await connect()
      }
    }
    return nil
  }

  private func read(_ lines: JSONLines) async {
    do {
      guard let line = try await lines.next() else {
        lost(
          EngineError(kind: .interrupted, call: "GET /events", message: "the engine ended the event stream"))
        return
      }
      guard let event = EngineEvent(line) else { return }
      // An engine whose clock is ahead must not make us deaf: what it says of the future is not taken over.
      if event.time < Self.wallClock() { since = Swift.max(since, event.time + 1) }
      pending.append(.event(event))
    } catch {
      lost(error)
    }
  }

  private func connect() async {
    if failures > 0 {
      let pause = Self.pause(afterFailures: failures, random: .random(in: 0..<1))
      do {
        try await EventLoop.shared.sleep(for: pause, tolerance: pause / 10)
      } catch {
        return
      }
    }
    let time = String(since / 1_000_000_000) + "." + Self.padded(since % 1_000_000_000)
    let query = [("since", time)] + (filterParameter(filters).map { [$0] } ?? [])
    do {
      lines = try await engine.lines(
        EngineClient.Call(method: "GET", path: "/events", query: query, timeouts: EngineTimeouts.events))
    } catch {
      lost(error)
      return
    }
    failures = 0
    pending.append(.connected)
    if wasConnected { pending.append(.gap) }
    wasConnected = true
  }

  private func lost(_ error: EngineError) {
    let isNews = lines != nil || failures == 0
    lines = nil
    failures += 1
    if isNews, error.kind != .cancelled { pending.append(.disconnected(error)) }
  }

  /// 1 s, 2 s, 4 s … 30 s, each shortened by up to a quarter.
  nonisolated static func pause(afterFailures failures: Int, random: Double) -> Duration {
    let doubled = firstPause * (1 << Swift.min(Swift.max(failures - 1, 0), 10))
    return Swift.min(doubled, longestPause) * (1 - 0.25 * random)
  }

  private nonisolated static func padded(_ nanoseconds: Int) -> String {
    let digits = String(nanoseconds)
    return String(repeating: "0", count: Swift.max(0, 9 - digits.count)) + digits
  }

  private static func wallClock() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}

extension EngineEvents: AsyncSequence {
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let events: EngineEvents

    public mutating func next() async -> Item? { await events.next() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(events: self) }
}
