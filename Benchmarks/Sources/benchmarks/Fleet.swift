import Foundation

/// Containers on the private engine: the same ones by the agent and by a shell loop.
struct Fleet {
  let setting: Setting
  static let appID = 1
  private static let label = "io.balena.app-id=\(appID)"
  private static let loopLabel = "benchmark=loop"

  /// A target state of `count` services that sleep.
  func target(services count: Int) throws -> Data {
    var services: [String: Any] = [:]
    for number in 1...count {
      services["\(number)"] =
        [
          "serviceName": "service-\(number)", "imageId": number, "image": setting.image,
          "environment": ["NUMBER": "\(number)"], "labels": [String: String](),
          "command": ["sleep", "2147483647"], "restart": "always", "stop_signal": "SIGKILL",
        ] as [String: Any]
    }
    let app: [String: Any] = [
      "name": "benchmark", "commit": "c0ffee00000000000000000000000002", "releaseId": 1, "services": services,
      "volumes": [String: String](), "networks": [String: String](),
    ]
    let document: [String: Any] = [
      "local": ["name": "benchmark", "config": [String: String](), "apps": ["\(Self.appID)": app]]
    ]
    return try JSONSerialization.data(withJSONObject: document)
  }

  @discardableResult
  private func docker(_ arguments: [String]) throws -> [String] {
    try Command.run(["docker", "--host", setting.engine] + arguments).split(separator: "\n").map(String.init)
  }

  private func running(_ label: String) throws -> [String] {
    try docker(["ps", "--quiet", "--no-trunc", "--filter", "label=\(label)", "--filter", "status=running"])
  }

  /// Waits until the agent has so many containers running.
  ///
  /// - Throws: `Failure` with the states of the containers and the end of the agent's log.
  func wait(for agent: AgentProcess, count: Int, timeoutSeconds: Int = 120) throws {
    let deadline = ContinuousClock.now + .seconds(timeoutSeconds)
    while try running(Self.label).count < count {
      guard ContinuousClock.now < deadline else {
        let states = try docker(["ps", "--all", "--format", "{{.Names}}: {{.Status}}"]).joined(
          separator: "\n")
        throw Failure(
          "the agent has not started \(count) services within \(timeoutSeconds) s\n\(states)\n\(agent.logTail)"
        )
      }
      usleep(100_000)
    }
  }

  /// When the last container of the agent's, or of the loop's, was started by the engine.
  func lastStart(byAgent: Bool) throws -> Date {
    let containers = try running(byAgent ? Self.label : Self.loopLabel)
    let times = try docker(["inspect", "--format", "{{.State.StartedAt}}"] + containers)
    // RFC 3339 with nanoseconds; its text orders like its time as long as the number of digits is the same.
    let dates = times.compactMap(Self.date)
    guard let last = dates.max(), dates.count == containers.count else {
      throw Failure("the engine's times are not understood: \(times)")
    }
    return last
  }

  private static func date(_ text: String) -> Date? {
    let parts = text.dropLast().split(separator: ".")
    guard let whole = parts.first, let date = try? Date("\(whole)Z", strategy: .iso8601) else { return nil }
    return date.addingTimeInterval(parts.count > 1 ? Double("0.\(parts[1])") ?? 0 : 0)
  }

  /// Starts `count` containers one after the other, as a shell would.
  func runLoop(count: Int) throws {
    let script = """
      set -e
      docker --host "$1" network create loop >/dev/null
      for number in $(seq \(count)); do
        docker --host "$1" run -d --label \(Self.loopLabel) --name loop-$number --network loop --restart always \\
          --env NUMBER=$number --stop-signal SIGKILL "$2" sleep 2147483647 >/dev/null
      done
      """
    try Command.run(["bash", "-c", script, "loop", setting.engine, setting.image])
  }

  /// Removes all containers, and the networks made for them. The image stays.
  func clear() throws {
    let containers = try docker(["ps", "--all", "--quiet"])
    if !containers.isEmpty { try docker(["rm", "--force", "--volumes"] + containers) }
    try docker(["network", "prune", "--force"])
  }
}
