/// From exec to the end of the first answered `/ping`, with a database of an earlier run.
struct StartSuite {
  let setting: Setting
  static let starts = 20

  /// - Returns: milliseconds, one for each start.
  func run() throws -> [Double] {
    let agent = try AgentProcess(setting, name: "start", port: 18_587)
    defer { agent.stop() }
    try agent.start()
    agent.stop()
    return try (0..<Self.starts).map { _ in
      let time = try agent.start()
      agent.stop()
      return time / .milliseconds(1)
    }
  }
}
