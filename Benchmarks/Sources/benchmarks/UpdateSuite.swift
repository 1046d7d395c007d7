import Foundation

/// What an update costs: how long a service is away, and how much of the processor the agent takes for many.
struct UpdateSuite {
  let setting: Setting
  nonisolated static let apps = 5
  nonisolated static let servicesPerApp = 10

  func run() throws -> UpdateFigures {
    let fleet = Fleet(setting: setting)
    try fleet.clear()
    defer { try? fleet.clear() }
    var figures = UpdateFigures(agentSeconds: [], shellSeconds: [], processorShares: [])
    for round in 0..<max(3, setting.rounds) {
      if round.isMultiple(of: 2) { figures.agentSeconds += try downtimeByAgent(fleet, round) }
      figures.shellSeconds += try downtimeByShell(fleet)
      if !round.isMultiple(of: 2) { figures.agentSeconds += try downtimeByAgent(fleet, round) }
    }
    figures.processorShares = try processorShares(fleet)
    return figures
  }

  private static let replacements = 4

  private func downtimeByAgent(_ fleet: Fleet, _ round: Int) throws -> [Double] {
    let agent = try AgentProcess(setting, name: "update-\(round)", port: 18_589)
    try agent.start()
    defer {
      agent.stop()
      try? fleet.clear()
    }
    try agent.post(try fleet.target(services: 1, version: 1))
    try fleet.wait(for: agent, count: 1, version: 1)
    sleep(2)
    let begin = Date()
    for version in 2...Self.replacements + 1 {
      try agent.post(try fleet.target(services: 1, version: version))
      try fleet.wait(for: agent, count: 1, version: version)
      usleep(500_000)
    }
    try agent.requireAlive()
    let seconds = try fleet.downtimes(since: begin)
    guard seconds.count == Self.replacements else {
      throw Failure(
        "\(seconds.count) of \(Self.replacements) updates seen in the engine's events\n\(agent.logTail)")
    }
    progress("agent: away for \(seconds.map(Report.number)) s")
    return seconds
  }

  private func downtimeByShell(_ fleet: Fleet) throws -> [Double] {
    defer { try? fleet.clear() }
    let begin = Date()
    try fleet.runReplacements(count: Self.replacements)
    let seconds = try fleet.downtimes(since: begin)
    progress("docker stop, rm, create, start: away for \(seconds.map(Report.number)) s")
    return seconds
  }

  /// The agent's share of one processor while every service of five apps is made anew.
  private func processorShares(_ fleet: Fleet) throws -> [Double] {
    let count = Self.apps * Self.servicesPerApp
    let agent = try AgentProcess(setting, name: "update-many", port: 18_590)
    try agent.start()
    defer { agent.stop() }
    try agent.post(try fleet.target(services: Self.servicesPerApp, apps: Self.apps, version: 1))
    try fleet.wait(for: agent, count: count, version: 1, timeoutSeconds: 300)
    sleep(5)
    return try (2...4).map { version in
      let target = try fleet.target(services: Self.servicesPerApp, apps: Self.apps, version: version)
      let processor = agent.processorSeconds
      let begin = Date()
      try agent.post(target)
      try fleet.wait(for: agent, count: count, version: version, timeoutSeconds: 300)
      let elapsed = Date().timeIntervalSince(begin)
      let share = (agent.processorSeconds - processor) / elapsed
      try agent.requireAlive()
      progress("\(count) services anew in \(Report.number(elapsed)) s, agent \(Report.number(share * 100)) %")
      sleep(5)
      return share
    }
  }
}

nonisolated struct UpdateFigures: Codable {
  /// From the end of the old container to the start of the new one.
  var agentSeconds: [Double]
  var shellSeconds: [Double]
  /// Of one processor, from the request to the last start.
  var processorShares: [Double]
}
