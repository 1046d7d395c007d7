import Foundation

/// Throughput of the answers that are kept prepared, asked with a key, as a share of that of `/ping`.
///
/// A round asks for each of them once, beginning with another one than the round before; the share of a round
/// is that of runs that lie side by side.
struct KeySuite {
  let setting: Setting
  static let services = 3
  static let connections = 16
  static let paths = ["/ping", "/v1/device", "/v2/state/status", "/v2/applications/state"]
  /// A fleet's device, so that keys are asked for; no cloud listens there.
  static let config = """
    {"apiEndpoint":"http://127.0.0.1:9","uuid":"0123456789abcdef0123456789abcdef","deviceApiKey":"none",
     "deviceId":1,"registered_at":1}
    """

  /// - Returns: `/ping` first.
  func run() throws -> [KeyRow] {
    let fleet = Fleet(setting: setting)
    let agent = try AgentProcess(
      setting, name: "keys", port: 18_586, config: Self.config,
      preload: try fleet.preload(services: Self.services))
    try agent.start(pinned: true)
    defer {
      agent.stop()
      try? fleet.clear()
    }
    try fleet.wait(for: agent, count: Self.services)
    sleep(5)
    try agent.requireAlive()
    let key = try fleet.key()
    guard LoopbackClient.request("GET", "/v2/state/status", port: agent.port)?.status == 401 else {
      throw Failure("the agent does not ask for a key\n\(agent.logTail)")
    }

    let generator = LoadGenerator(script: setting.script)
    var rows = try Self.paths.map { path in
      let answer = LoopbackClient.request("GET", "\(path)?apikey=\(key)", port: agent.port)
      guard let answer, answer.status == 200 else { throw Failure("\(path): \(agent.logTail)") }
      return KeyRow(path: path, bodyBytes: answer.body.count)
    }
    for round in 0..<setting.rounds * 2 {
      for place in rows.indices {
        let position = (round + place) % rows.count
        rows[position].requestsPerSecond.append(
          try generator.run(
            url: "http://127.0.0.1:\(agent.port)\(rows[position].path)", connections: Self.connections,
            seconds: (setting.seconds + 1) / 2, header: "Authorization: Bearer \(key)"
          ).requestsPerSecond)
      }
      for position in rows.indices {
        rows[position].shares.append(
          (rows[position].requestsPerSecond.last ?? 0) / (rows[0].requestsPerSecond.last ?? 1))
      }
    }
    for row in rows { progress("\(row.path) with a key: \(Report.number(row.share)) of /ping") }
    return rows
  }
}

nonisolated struct KeyRow: Codable {
  var path: String
  var bodyBytes: Int
  /// One for each round, in order.
  var requestsPerSecond: [Double] = []
  /// Of `/ping` in the same round.
  var shares: [Double] = []

  var share: Double { shares.median }
}
