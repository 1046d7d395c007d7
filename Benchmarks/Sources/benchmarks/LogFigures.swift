/// What a service that writes much costs a device with a cloud.
nonisolated struct LogFigures: Codable {
  var lines = 0
  var lost = 0
  /// Of each `/ping` while the lines go through, in turns of both servers.
  var agentMilliseconds: [Double] = []
  var nginxMilliseconds: [Double] = []
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

  private static func tail(_ values: [Double]) -> String {
    "\(Report.number(percentile(0.99, of: values))) (\(Report.number(percentile(0.999, of: values))))"
  }

  var rows: [Row] {
    let ping = Self.percentile(0.99, of: agentMilliseconds)
    let thousands = Double(max(lines, 1)) / 1000
    let agent = agentSeconds / thousands * 1000
    let journalctl = journalctlSeconds / thousands * 1000
    return [
      Row(
        name: "lines of \(lines) that did not arrive at the cloud", measured: "\(lost)", limit: "0",
        holds: lost == 0),
      Row(
        name: "`/ping` meanwhile, ms, 99th percentile (99.9th)", measured: Self.tail(agentMilliseconds),
        limit: "≤ 5, nginx \(Self.tail(nginxMilliseconds))", holds: ping <= 5),
      Row(
        name: "processor for 1,000 lines, ms", measured: Report.number(agent),
        limit: "≤ \(Report.number(journalctl)), `journalctl -f -o json \\| gzip`", holds: agent <= journalctl),
      Row(
        name: "anonymous memory meanwhile, MiB more", measured: Report.number(Double(growthKiB) / 1024),
        limit: "≤ 2", holds: growthKiB <= 2048),
    ]
  }
}
