import Foundation

/// Twenty services whose image is present: the agent against a shell loop of `docker run -d`.
struct ApplySuite {
  let setting: Setting
  static let services = 20

  func run() throws -> ApplyTimes {
    let fleet = Fleet(setting: setting)
    try fleet.clear()
    defer { try? fleet.clear() }
    var times = ApplyTimes(agentSeconds: [], loopSeconds: [])
    for round in 0..<max(3, setting.rounds) {
      let agentFirst = round.isMultiple(of: 2)
      if agentFirst { times.agentSeconds.append(try byAgent(fleet, round)) }
      times.loopSeconds.append(try byLoop(fleet))
      if !agentFirst { times.agentSeconds.append(try byAgent(fleet, round)) }
    }
    return times
  }

  private func byAgent(_ fleet: Fleet, _ round: Int) throws -> Double {
    let agent = try AgentProcess(setting, name: "apply-\(round)", port: 18_588)
    try agent.start()
    defer {
      agent.stop()
      try? fleet.clear()
    }
    sleep(2)
    let target = try fleet.target(services: Self.services)
    let begin = Date()
    try agent.post(target)
    try fleet.wait(for: agent, count: Self.services)
    sleep(2)
    try agent.requireAlive()
    let seconds = try fleet.lastStart(byAgent: true).timeIntervalSince(begin)
    progress("agent: \(Self.services) services in \(Report.number(seconds)) s")
    return seconds
  }

  private func byLoop(_ fleet: Fleet) throws -> Double {
    defer { try? fleet.clear() }
    let begin = Date()
    try fleet.runLoop(count: Self.services)
    let seconds = try fleet.lastStart(byAgent: false).timeIntervalSince(begin)
    progress("docker run -d in a loop: \(Self.services) containers in \(Report.number(seconds)) s")
    return seconds
  }
}

nonisolated struct ApplyTimes: Codable {
  /// From the request, or the first command, to the engine's time stamp of the last start.
  var agentSeconds: [Double]
  var loopSeconds: [Double]
}
