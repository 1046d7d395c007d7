import EventLoop
import Glibc
import HTTP
import StateEngine

// `GET /v2/metrics`: the text format of Prometheus (version 0.0.4).
extension DeviceAPI {
  func metricsPage() -> Response {
    var page = MetricsPage()
    addRequests(to: &page)
    addEngine(to: &page)
    addProcess(to: &page)
    return Response(
      200, contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(page.text.utf8))
  }

  private func addRequests(to page: inout MetricsPage) {
    let names =
      metrics.routes.map { "method=\"\($0.method)\",route=\"\($0.path)\"" } + ["method=\"\",route=\"\""]
    page.begin("supervisor_http_requests_total", "counter", "Requests by route and status.")
    for (name, route) in zip(names, metrics.counts) {
      for entry in route.statuses { page.add("\(name),status=\"\(entry.status)\"", entry.count) }
    }
    page.begin(
      "supervisor_http_request_duration_seconds", "histogram", "Time from the request's head to its answer.")
    for (name, route) in zip(names, metrics.counts) where !route.statuses.isEmpty {
      var sum = 0
      for (bound, count) in zip(RequestMetrics.bounds, route.buckets) {
        sum += count
        page.add("\(name),le=\"\(bound.text)\"", sum, suffix: "_bucket")
      }
      sum += route.buckets.last ?? 0
      page.add("\(name),le=\"+Inf\"", sum, suffix: "_bucket")
      page.add(name, seconds: route.nanoseconds, suffix: "_sum")
      page.add(name, sum, suffix: "_count")
    }
    page.begin(
      "supervisor_prepared_answers_total", "counter",
      "Answers about the state that were made anew; one that is asked for again is sent as it is.")
    page.add("", everyone.prepared.builds)
    let server = serverCounters()
    page.begin("supervisor_http_connections", "gauge", "Open connections.")
    page.add("", server.open)
    page.begin("supervisor_http_connections_total", "counter", "Connections by what became of them.")
    page.add("outcome=\"accepted\"", server.accepted)
    page.add("outcome=\"refused\"", server.refused)
    page.begin("supervisor_http_timeouts_total", "counter", "Connections closed because a time was over.")
    page.add("", server.timedOut)
  }

  private func addEngine(to page: inout MetricsPage) {
    let calls = engine.engineCalls
    page.begin("supervisor_engine_requests_total", "counter", "Calls to the container engine.")
    page.add("", calls.count)
    page.begin("supervisor_engine_failures_total", "counter", "Calls to the container engine that failed.")
    page.add("", calls.failures)
    page.begin("supervisor_engine_reachable", "gauge", "Whether the container engine answers.")
    page.add("", engine.engineProblem == nil ? 1 : 0)
    page.begin("supervisor_pulls_total", "counter", "Downloads of images by outcome.")
    page.add("outcome=\"done\"", engine.images.pullCount)
    page.add("outcome=\"failed\"", engine.images.failedPullCount)
    page.begin("supervisor_plans_total", "counter", "Plans that were made; a device at rest makes none.")
    page.add("", engine.counters.plans)
    page.begin("supervisor_steps_total", "counter", "Steps that were begun.")
    for (step, count) in engine.counters.stepsBegun.sorted(by: { $0.key < $1.key }) {
      page.add("step=\"\(step)\"", count)
    }
    page.begin("supervisor_step_failures_total", "counter", "Steps that failed.")
    for (step, count) in engine.counters.stepsFailed.sorted(by: { $0.key < $1.key }) {
      page.add("step=\"\(step)\"", count)
    }
    page.begin("supervisor_service_restarts_total", "counter", "Services that ended and were started again.")
    page.add("", engine.counters.serviceRestarts)
    let lines = logCounters() + localLogs.counters
    page.begin("supervisor_log_lines_total", "counter", "Log lines by what became of them.")
    page.add("outcome=\"sent\"", lines.sent)
    page.add("outcome=\"dropped\"", lines.dropped)
    page.begin("supervisor_applying", "gauge", "Whether the target state is being applied.")
    page.add("", engine.isApplying ? 1 : 0)
  }

  private func addProcess(to page: inout MetricsPage) {
    memory.refresh(at: .read())
    page.begin("supervisor_memory_bytes", "gauge", "Memory of this process, at most 30 seconds ago.")
    page.add("kind=\"pss\"", memory.proportional)
    page.add("kind=\"anonymous\"", memory.anonymous)
    page.begin(
      "supervisor_bus_calls_total", "counter", "Calls on the system bus; a device at rest makes none.")
    page.add("", busCalls())
    page.begin("supervisor_loop_wakeups_total", "counter", "Times the process woke up from waiting.")
    page.add("", Int(clamping: EventLoop.shared.wakeUps))
    page.begin(
      "supervisor_loop_lag_seconds", "gauge",
      "Longest time that one turn of the loop took since the last look.")
    page.add("", seconds: EventLoop.shared.takeLongestTurn().clampedNanoseconds)
  }
}

/// Log lines since the start of the process; one that goes to two clients counts twice.
public nonisolated struct LogCounters: Sendable, Hashable {
  public var sent: Int
  /// Because a limit was reached or nobody took them in time.
  public var dropped: Int

  public init(sent: Int = 0, dropped: Int = 0) {
    self.sent = sent
    self.dropped = dropped
  }

  public static func + (one: LogCounters, other: LogCounters) -> LogCounters {
    LogCounters(sent: one.sent + other.sent, dropped: one.dropped + other.dropped)
  }
}

struct MetricsPage {
  private(set) var text = ""
  private var name = ""

  mutating func begin(_ name: String, _ type: String, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
  }

  mutating func add(_ labels: String, _ value: Int, suffix: String = "") {
    text += "\(name)\(suffix)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n"
  }

  mutating func add(_ labels: String, seconds nanoseconds: UInt64, suffix: String = "") {
    let fraction = String(nanoseconds % 1_000_000_000)
    let padded = String(repeating: "0", count: 9 - fraction.count) + fraction
    text +=
      "\(name)\(suffix)\(labels.isEmpty ? "" : "{\(labels)}") \(nanoseconds / 1_000_000_000).\(padded)\n"
  }
}

/// What the kernel counts for this process, in bytes (proc(5), smaps_rollup).
///
/// It looks at each page for that, which costs five times what the rest of the metrics does.
struct ProcessMemory {
  static let validity = Duration.seconds(30)

  private(set) var proportional = 0
  private(set) var anonymous = 0
  private var time: MonotonicTime?

  mutating func refresh(at now: MonotonicTime) {
    if let time, now - time < Self.validity { return }
    self = .read()
    time = proportional > 0 ? now : nil
  }

  private static func read() -> ProcessMemory {
    var memory = ProcessMemory()
    let descriptor = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return memory }
    defer { close(descriptor) }
    let bytes = [UInt8](unsafeUninitializedCapacity: 4096) { space, count in
      count = max(0, Glibc.read(descriptor, space.baseAddress, 4096))
    }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count >= 2, let kilobytes = Int(words[1]) else { continue }
      if words[0] == "Pss:" { memory.proportional = kilobytes * 1024 }
      if words[0] == "Anonymous:" { memory.anonymous = kilobytes * 1024 }
    }
    return memory
  }
}
