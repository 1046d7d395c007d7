import Foundation

/// Throughput and latency of the two hot requests, next to nginx in the same minutes.
///
/// A round runs both servers one after the other, the one that begins changes from round to round, and the figure
/// of a server is the median of its rounds: what else the machine does falls on both.
struct LatencySuite {
  let setting: Setting
  static let services = 20
  static let connectionCounts = [1, 16, 64]
  static let paths = ["/ping", "/v2/state/status"]

  func run() throws -> [LatencyRow] {
    let fleet = Fleet(setting: setting)
    let agent = try AgentProcess(setting, name: "latency", port: 18_584)
    try agent.start(pinned: true)
    defer {
      agent.stop()
      try? fleet.clear()
    }
    try agent.post(try fleet.target(services: Self.services))
    try fleet.wait(for: agent, count: Self.services)
    sleep(5)
    try agent.requireAlive()
    guard let status = LoopbackClient.request("GET", "/v2/state/status", port: agent.port) else {
      throw Failure("GET /v2/state/status: no answer\n\(agent.logTail)")
    }
    guard status.status == 200 else {
      throw Failure(
        "GET /v2/state/status: \(status.status) \(String(decoding: status.body, as: UTF8.self))\n\(agent.logTail)"
      )
    }
    let nginx = try Nginx(setting, port: 18_585, status: status.body)
    defer { nginx.stop() }

    let generator = LoadGenerator(script: setting.script)
    var rows: [LatencyRow] = []
    for path in Self.paths {
      for connections in Self.connectionCounts {
        func measure(_ port: Int) throws -> LoadResult {
          try generator.run(
            url: "http://127.0.0.1:\(port)\(path)", connections: connections, seconds: setting.seconds)
        }
        var row = LatencyRow(
          path: path, connections: connections,
          bodyBytes: path == "/ping" ? 2 : status.body.count, agent: [], nginx: [])
        for round in 0..<setting.rounds {
          if round.isMultiple(of: 2) {
            row.agent.append(try measure(agent.port))
            row.nginx.append(try measure(nginx.port))
          } else {
            row.nginx.append(try measure(nginx.port))
            row.agent.append(try measure(agent.port))
          }
        }
        progress("\(path), \(connections) connections: \(Int(row.agentMedian.requestsPerSecond)) requests/s")
        rows.append(row)
      }
    }
    return rows
  }
}

nonisolated struct LatencyRow: Codable {
  var path: String
  var connections: Int
  var bodyBytes: Int
  /// One for each round, in order.
  var agent: [LoadResult]
  var nginx: [LoadResult]

  var agentMedian: LoadResult { Self.median(agent) }
  var nginxMedian: LoadResult { Self.median(nginx) }

  private static func median(_ results: [LoadResult]) -> LoadResult {
    LoadResult(
      requestsPerSecond: results.map(\.requestsPerSecond).median, p50: results.map(\.p50).median,
      p99: results.map(\.p99).median, p999: results.map(\.p999).median)
  }
}
