/// What a service that writes much costs a device with a cloud.
nonisolated struct LogFigures: Codable {
  var lines = 0
  var lost = 0
  /// Of each `/ping` while the lines go through, in turns of both servers.
  var agentMilliseconds: [Double] = []
  var nginxMilliseconds: [Double] = []
  /// The longest turn of the agent's loop in each second.
  var turnMilliseconds: [Double] = []
  /// For all lines.
  var agentSeconds = 0.0
  var journalctlSeconds = 0.0
  /// Anonymous memory at its most, above that before.
  var growthKiB = 0

  struct Row {
    let name: String
    let measured: String
    let limit: String
    let holds: Bool
  }

  static func percentile(_ share: Double, of values: [Double]) -> Double {
    let ordered = values.sorted()
    guard !ordered.isEmpty else { return 0 }
    return ordered[min(Int(Double(ordered.count) * share), ordered.count - 1)]
  }

  var rows: [Row] {
    let ping = Self.percentile(0.99, of: agentMilliseconds)
    let other = Self.percentile(0.99, of: nginxMilliseconds)
    let thousands = Double(max(lines, 1)) / 1000
    let agent = agentSeconds / thousands * 1000
    let journalctl = journalctlSeconds / thousands * 1000
    return [
      Row(
        name: "lines of \(lines) that did not arrive at the cloud", measured: "\(lost)", limit: "0",
        holds: lost == 0),
      Row(
        name: "`/ping` meanwhile, 99th percentile, ms (nginx \(Report.number(other)))",
        measured: Report.number(ping), limit: "≤ 5", holds: ping <= 5),
      Row(
        name: "the longest turn of the loop in a second, median (worst), ms",
        measured: "\(Report.number(turnMilliseconds.median)) (\(Report.number(turnMilliseconds.max() ?? 0)))",
        limit: "≤ 5, the median", holds: turnMilliseconds.median <= 5),
      Row(
        name: "processor for 1,000 lines, ms", measured: Report.number(agent),
        limit: "≤ \(Report.number(journalctl)), `journalctl -f -o json \\| gzip`", holds: agent <= journalctl),
      Row(
        name: "anonymous memory meanwhile, MiB more", measured: Report.number(Double(growthKiB) / 1024),
        limit: "≤ 2", holds: growthKiB <= 2048),
    ]
  }
}
