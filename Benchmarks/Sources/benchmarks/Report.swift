import Foundation

/// The results as data, and as the tables of docs/benchmarks.md.
nonisolated struct Report: Codable {
  var machine: Machine
  var latency: [LatencyRow]?
  var keys: [KeyRow]?
  var footprint: Footprint?
  var startMilliseconds: [Double]?
  var apply: ApplyTimes?
  var update: UpdateFigures?
  var journal: JournalFigures?
  var logs: LogFigures?

  struct Machine: Codable {
    var date: String
    var processor: String
    var processors: Int
    var memoryMiB: Int
    var kernel: String
    /// Of one minute, before the first suite: what else the machine was doing.
    var loadBefore: Double
    var agent: String
  }

  static func number(_ value: Double) -> String {
    switch value {
    case 100...: "\(Int(value.rounded()))"
    case 10...: String(format: "%.1f", value)
    default: String(format: "%.2f", value)
    }
  }

  var markdown: String {
    var text = """
      \(machine.date), \(machine.processors) × \(machine.processor), \(machine.memoryMiB) MiB, \
      Linux \(machine.kernel), load \(Self.number(machine.loadBefore)) before the first run; \
      agent \(machine.agent).

      """
    if let latency { text += "\n" + Self.table(latency) }
    let figures = self.figures
    if !figures.isEmpty {
      text += "\n| figure | measured | must hold | |\n| --- | ---: | ---: | --- |\n"
      text += figures.joined(separator: "\n") + "\n"
    }
    return text
  }

  private static func table(_ rows: [LatencyRow]) -> String {
    var text = """
      | request | connections | requests/s | nginx | ratio | p50 µs | nginx | p99 µs | nginx | p99.9 µs | nginx |
      | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |

      """
    for row in rows {
      let agent = row.agentMedian
      let nginx = row.nginxMedian
      let cells = [
        "`\(row.path)`", "\(row.connections)", number(agent.requestsPerSecond),
        number(nginx.requestsPerSecond),
        "**\(number(agent.requestsPerSecond / nginx.requestsPerSecond))**", number(agent.p50),
        number(nginx.p50),
        number(agent.p99), number(nginx.p99), number(agent.p999), number(nginx.p999),
      ]
      text += "| " + cells.joined(separator: " | ") + " |\n"
    }
    return text
  }

  private var figures: [String] {
    var lines: [String] = []
    func line(_ name: String, _ measured: String, _ limit: String, _ holds: Bool) {
      lines.append("| \(name) | \(measured) | \(limit) | \(holds ? "holds" : "**does not hold**") |")
    }
    for (connections, ping) in pings {
      let ratio = ping.agentMedian.requestsPerSecond / ping.nginxMedian.requestsPerSecond
      line("`/ping`, \(connections) connections, of nginx", Self.number(ratio), "≥ 1", ratio >= 1)
      guard
        let status = latency?.first(where: { $0.path != "/ping" && $0.connections == connections })
      else { continue }
      let half = status.agentMedian.requestsPerSecond / ping.nginxMedian.requestsPerSecond
      line(
        "`\(status.path)`, \(connections) connections, of nginx's `/ping`", Self.number(half), "≥ 0.5",
        half >= 0.5)
    }
    for row in (keys ?? []).dropFirst() {
      line(
        "`\(row.path)` with a key, \(row.bodyBytes) bytes, of `/ping`", Self.number(row.share), "≥ 0.8",
        row.share >= 0.8)
    }
    if let footprint {
      line("threads", "\(footprint.threads)", "1", footprint.threads == 1)
      let anonymous = Double(footprint.anonymousKiB) / 1024
      line("anonymous memory, MiB", Self.number(anonymous), "≤ 4", anonymous <= 4)
      let pss = Double(footprint.pssKiB) / 1024
      line("PSS, MiB", Self.number(pss), "≤ 14", pss <= 14)
      line(
        "wake-ups a minute", Self.number(footprint.wakeUpsPerMinute), "≤ 2", footprint.wakeUpsPerMinute <= 2)
      line(
        "processor in a minute, ms", Self.number(footprint.processorPerMinute), "≤ 6, 0.01 %",
        footprint.processorPerMinute <= 6)
      line(
        "wake-ups a minute, \(FootprintSuite.manyServices) services",
        Self.number(footprint.manyWakeUpsPerMinute), "≤ 2", footprint.manyWakeUpsPerMinute <= 2)
      line(
        "processor in a minute, \(FootprintSuite.manyServices) services, ms",
        Self.number(footprint.manyProcessorPerMinute), "≤ 6, 0.01 %", footprint.manyProcessorPerMinute <= 6)
    }
    if let startMilliseconds {
      let median = startMilliseconds.median
      let worst = startMilliseconds.max() ?? 0
      line(
        "exec to first `/ping`, ms, median (worst of \(startMilliseconds.count))",
        "\(Self.number(median)) (\(Self.number(worst)))", "≤ 50", worst <= 50)
    }
    if let apply {
      let agent = apply.agentSeconds.median
      let loop = apply.loopSeconds.median
      line(
        "20 services running, s", Self.number(agent), "≤ \(Self.number(loop)), the loop", agent <= loop)
    }
    if let update {
      let agent = update.agentSeconds.median
      let shell = update.shellSeconds.median
      line(
        "a service is away during its update, s", Self.number(agent),
        "≤ \(Self.number(shell * 1.15)), 1.15 × stop, rm, create, start in a shell", agent <= shell * 1.15)
      let share = update.processorShares.median * 100
      line(
        "processor of the agent while \(UpdateSuite.apps * UpdateSuite.servicesPerApp) services are made anew, %",
        Self.number(share), "≤ 5", share <= 5)
    }
    if let logs { for row in logs.rows { line(row.name, row.measured, row.limit, row.holds) } }
    if let journal { for row in journal.rows { line(row.name, row.measured, row.limit, row.holds) } }
    return lines
  }

  private var pings: [(Int, LatencyRow)] {
    (latency ?? []).filter { $0.path == "/ping" }.map { ($0.connections, $0) }
  }
}
