import Engine
import EventLoop
import HTTP
import JSON
import Journal
import Logging
import Model
import StateEngine

/// The log stream of local mode: `GET /v2/local/logs` (http-api 5.17, cloud 4.5).
///
/// One follower reads the journal, and only while somebody listens. Each listener has a queue of
/// lines with a bound: one that does not keep up misses the oldest lines, and is told how many.
final class LocalLogs {
  /// Bytes of lines that wait for one listener.
  static let queueBytes = 256 * 1024
  /// Listeners at the same time.
  static let listenerLimit = 16
  /// Before the journal is tried again that could not be opened.
  static let retryDelay = Duration.seconds(5)
  static let firstLine = "{\"message\":\"Streaming logs\",\"isSystem\":true}\n"

  final class Listener {
    fileprivate var lines: [[UInt8]] = []
    fileprivate var bytes = 0
    fileprivate var missed = 0
    fileprivate var waiter: CheckedContinuation<Void, Never>?
    fileprivate var isGone = false
  }

  private let engine: StateEngine
  private let client: EngineClient?
  private let source: () -> JournalReader.Source
  private let isActive: () -> Bool
  private let logger: Logger
  private var listeners: [Listener] = []
  private var follower: LogFollower?
  private var containers = RememberedContainers()
  private var task: Task<Void, Never>?
  private var isDriverReported = false
  private lazy var drivers = client.map { client in
    LogDriverCheck(client, logger: logger) { [unowned self] in publish($0, isError: true) }
  }
  let places = StreamPlaces(limit: listenerLimit)
  /// Lines for all listeners together.
  private(set) var counters = LogCounters()

  init(
    engine: StateEngine, client: EngineClient?, logger: Logger, source: @escaping () -> JournalReader.Source,
    isActive: @escaping () -> Bool
  ) {
    self.engine = engine
    self.client = client
    self.logger = logger
    self.source = source
    self.isActive = isActive
  }

  // MARK: Listeners

  /// Sends lines until the client goes.
  func stream(to writer: BodyWriter) async {
    let listener = Listener()
    listeners.append(listener)
    if task == nil { task = Task { await follow() } }
    await withTaskCancellationHandler {
      do throws(ClientGone) {
        try await writer.write(Self.firstLine)
        while !Task.isCancelled {
          let piece = take(listener)
          if piece.isEmpty { await line(for: listener) } else { try await writer.write(piece) }
        }
      } catch {}
    } onCancel: {
      Task { @MainActor in
        listener.isGone = true
        listener.waiter.take()?.resume()
      }
    }
    listeners.removeAll { $0 === listener }
    guard listeners.isEmpty else { return }
    task?.cancel()
    task = nil
    follower?.close()
    follower = nil
    containers = RememberedContainers()
  }

  private func take(_ listener: Listener) -> [UInt8] {
    var piece: [UInt8] = []
    if listener.missed > 0 {
      let text = "Warning: Suppressed \(listener.missed) message(s) due to high load"
      piece += Self.line(LogRecord(.agent, message: text, timestamp: Self.now, isError: true))
      listener.missed = 0
    }
    for line in listener.lines { piece += line }
    counters.sent += listener.lines.count
    listener.lines.removeAll(keepingCapacity: listener.lines.capacity <= 256)
    listener.bytes = 0
    return piece
  }

  private func line(for listener: Listener) async {
    await withCheckedContinuation { continuation in
      if listener.isGone || !listener.lines.isEmpty { return continuation.resume() }
      listener.waiter = continuation
    }
  }

  // MARK: Records

  /// What the agent itself has to say.
  ///
  /// - Returns: false when nobody is there to see it.
  @discardableResult
  func publish(_ text: String, isError: Bool) -> Bool {
    publish([LogRecord(.agent, message: text, timestamp: Self.now, isError: isError)])
  }

  @discardableResult
  private func publish(_ records: [LogRecord]) -> Bool {
    guard !listeners.isEmpty, isActive() else { return false }
    for record in records {
      let line = Self.line(record)
      for listener in listeners {
        while listener.bytes + line.count > Self.queueBytes, !listener.lines.isEmpty {
          listener.bytes -= listener.lines.removeFirst().count
          listener.missed += 1
          counters.dropped += 1
        }
        listener.lines.append(line)
        listener.bytes += line.count
      }
    }
    for listener in listeners { listener.waiter.take()?.resume() }
    return true
  }

  private static var now: Int { Int(clamping: RealTime.microseconds / 1000) }

  /// One object and a line feed.
  static func line(_ record: LogRecord) -> [UInt8] {
    var object = JSONObject()
    switch record.source {
    case .service(let id, let name):
      object["serviceName"] = .string(name)
      object["message"] = .string(record.message)
      object["isStdErr"] = .bool(record.isError)
      object["timestamp"] = .int(record.timestamp)
      object["serviceId"] = .int(id)
    case .hostUnit, .agent:
      object["message"] = .string(record.message)
      object["isSystem"] = true
      object["timestamp"] = .int(record.timestamp)
      if record.isError || record.source == .hostUnit { object["isStdErr"] = .bool(record.isError) }
    }
    return JSON.object(object).bytes() + [0x0a]
  }

  // MARK: The journal

  private func follow() async {
    var start = LogFollower.Start.now
    var isReported = false
    Task { await reportDriver() }
    while !Task.isCancelled {
      do throws(JournalError) {
        let follower = try LogFollower(source(), from: start)
        self.follower = follower
        noteContainers()
        var (lost, pages): (Int, UInt64) = (0, 0)
        while let batch = await follower.next() {
          if let cursor = batch.cursor { start = .cursor(cursor, otherwise: RealTime.microseconds) }
          publish(batch.records)
          guard batch.lost > lost || batch.lostPages > pages else { continue }
          logger.warning(
            "A file of the journal was cut off or damaged: \(batch.lostPages - pages) pages lost, the log stream misses entries in \(batch.lost - lost) places"
          )
          (lost, pages) = (batch.lost, batch.lostPages)
        }
        if Task.isCancelled { return }
        follower.close()
      } catch {
        if !isReported { logger.warning("Cannot read the journal for the log stream: \(error.description)") }
        isReported = true
      }
      try? await EventLoop.shared.sleep(for: Self.retryDelay, tolerance: .seconds(1))
    }
  }

  /// To be called when the containers may have changed.
  func noteContainers() {
    guard let follower else { return }
    let present = engine.loggedContainers
    containers.note(present)
    follower.containers = containers.all
    drivers?.look(at: present)
  }

  /// Lines of containers that log elsewhere cannot be had; that is said once.
  private func reportDriver() async {
    guard !isDriverReported, let client else { return }
    let information: JSON
    do throws(EngineError) { information = try await client.info() } catch { return }
    guard case .string(let driver) = information["LoggingDriver"], driver != "journald" else { return }
    guard !isDriverReported else { return }
    let text =
      "The engine logs to '\(driver)' and not to journald: lines of services are missing in the log stream"
    isDriverReported = publish(text, isError: true)
    if isDriverReported { logger.warning("\(text)") }
  }
}
