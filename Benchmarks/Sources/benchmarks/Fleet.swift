import Foundation

/// Containers on the private engine: the same ones by the agent and by a shell loop.
struct Fleet {
  let setting: Setting
  private static let label = "io.balena.supervised"
  private static let loopLabel = "benchmark=loop"

  /// A target state of services that sleep.
  ///
  /// - Parameters:
  ///   - count: services of each app.
  ///   - version: a value in their environment: services of another version are other services.
  func target(services count: Int, apps: Int = 1, version: Int = 1) throws -> Data {
    var documents: [String: Any] = [:]
    for app in 1...apps {
      var services: [String: Any] = [:]
      for number in 1...count {
        services["\(app * 100 + number)"] =
          [
            "serviceName": "service-\(number)", "imageId": number, "image": setting.image,
            "environment": ["NUMBER": "\(number)", "VERSION": "\(version)"], "labels": [String: String](),
            "command": ["sleep", "2147483647"], "restart": "always", "stop_signal": "SIGKILL",
          ] as [String: Any]
      }
      documents["\(app)"] =
        [
          "name": "benchmark-\(app)", "commit": "c0ffee\(app)\(version)", "releaseId": version,
          "services": services, "volumes": [String: String](), "networks": [String: String](),
        ] as [String: Any]
    }
    let document: [String: Any] = [
      "local": ["name": "benchmark", "config": [String: String](), "apps": documents]
    ]
    return try JSONSerialization.data(withJSONObject: document)
  }

  /// apps.json of a device that comes with its app; each service has a key of the API.
  func preload(services count: Int) throws -> Data {
    var services: [String: Any] = [:]
    for number in 1...count {
      services["service-\(number)"] =
        [
          "id": number, "image_id": number, "image": setting.image, "environment": ["VERSION": "1"],
          "labels": ["io.balena.features.supervisor-api": "1"],
          "composition": [
            "command": ["sleep", "2147483647"], "restart": "always", "stop_signal": "SIGKILL",
          ] as [String: Any],
        ] as [String: Any]
    }
    let release: [String: Any] = [
      "id": 1, "services": services, "volumes": [String: String](), "networks": [String: String](),
    ]
    let app: [String: Any] = [
      "id": 1, "name": "benchmark", "class": "fleet", "releases": ["c0ffee": release],
    ]
    return try JSONSerialization.data(
      withJSONObject: ["config": [String: String](), "apps": [String(repeating: "b", count: 32): app]])
  }

  /// The key that the agent gave to a container.
  func key() throws -> String {
    guard let container = try running(Self.label).first else { throw Failure("no container has a key") }
    let lines = try docker(["inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", container])
    let name = "BALENA_SUPERVISOR_API_KEY="
    guard let line = lines.first(where: { $0.hasPrefix(name) }) else {
      throw Failure("the container has no key: \(lines)")
    }
    return String(line.dropFirst(name.count))
  }

  /// The agent's container, when it runs and is the only one.
  func onlyContainer() throws -> String? {
    let all = try running(Self.label)
    return all.count == 1 ? all[0] : nil
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
  func wait(for agent: AgentProcess, count: Int, version: Int = 1, timeoutSeconds: Int = 120) throws {
    let deadline = ContinuousClock.now + .seconds(timeoutSeconds)
    while try runningIDs(version).count < count {
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

  private func runningIDs(_ version: Int) throws -> [String] {
    let all = try running(Self.label)
    guard !all.isEmpty else { return [] }
    // One of them may have gone since.
    let lines = (try? docker(["inspect", "--format", "{{.Id}} {{.Config.Env}} "] + all)) ?? []
    return lines.filter { $0.contains("VERSION=\(version) ") || $0.contains("VERSION=\(version)]") }
  }

  /// Seconds from the end of a container to the next start of one, as the engine's events have it.
  func downtimes(since begin: Date) throws -> [Double] {
    let lines = try docker([
      "events", "--since", "\(begin.timeIntervalSince1970)", "--until", "\(Date().timeIntervalSince1970)",
      "--filter", "type=container", "--filter", "event=die", "--filter", "event=start",
      "--format", "{{.Action}} {{.TimeNano}}",
    ])
    var died: Double?
    var found: [Double] = []
    for line in lines {
      let words = line.split(separator: " ")
      guard words.count == 2, let nanoseconds = Double(words[1]) else { continue }
      if words[0] == "die" {
        died = nanoseconds
      } else if let end = died {
        found.append((nanoseconds - end) / 1e9)
        died = nil
      }
    }
    return found
  }

  /// One container made anew `count` times by a shell, like a service with a new environment.
  func runReplacements(count: Int) throws {
    let script = """
      set -e
      docker --host "$1" network create loop >/dev/null
      make() {
        docker --host "$1" create --label \(Self.loopLabel) --name loop-1 --network loop --restart always \\
          --env NUMBER=1 --env VERSION=$3 --stop-signal SIGKILL "$2" sleep 2147483647 >/dev/null &&
          docker --host "$1" start loop-1 >/dev/null
      }
      make "$1" "$2" 0
      for number in $(seq \(count)); do
        sleep 0.5
        docker --host "$1" stop loop-1 >/dev/null && docker --host "$1" rm loop-1 >/dev/null && make "$1" "$2" $number
      done
      """
    try Command.run(["bash", "-c", script, "loop", setting.engine, setting.image])
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
