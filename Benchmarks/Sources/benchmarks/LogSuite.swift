import Foundation

/// A service writes 10,000 lines a second; they go through the journal to the stand-in for the cloud, next to
/// `journalctl -f -o json | gzip` on the same journal, while both the agent and nginx are asked for `/ping`.
struct LogSuite {
  let setting: Setting
  private static let rate = 10_000
  private static let port = 18_593
  private static let nginxPort = 18_594
  private static let cloudPort = 18_595
  private static let plainPort = 18_596
  private static let pagePort = 18_597
  /// Between two pairs of requests.
  private static let pause: UInt32 = 2000

  func run() throws -> LogFigures {
    let cloud = try startCloud()
    defer { Command.end(cloud) }
    let file = setting.directory.appending(path: "cloud/config.json")
    let agent = try AgentProcess(
      setting, name: "logs", port: Self.port, config: try String(contentsOf: file, encoding: .utf8),
      more: ["--journal-directory", "/run/log/journal"])
    try agent.start(pinned: true)
    defer { agent.stop() }
    let fleet = Fleet(setting: setting)
    defer { try? fleet.clear() }
    let container = try wait(for: "the service") { try fleet.onlyContainer() }
    let nginx = try Nginx(setting, port: Self.nginxPort, status: Data("{}".utf8))
    defer { nginx.stop() }
    // Its first lines open the stream, and what is made once is made.
    try Command.run(writer(container, seconds: 1))
    _ = try wait(for: "the first lines") { try arrived().last == Self.rate ? true : nil }
    return try measure(agent, container)
  }

  // MARK: - The load

  private func measure(_ agent: AgentProcess, _ container: String) throws -> LogFigures {
    let peer = try Command.start(
      Command.pinned(
        [
          "bash", "-c",
          "journalctl --directory /run/log/journal -f -n 0 -o json CONTAINER_ID_FULL=\(container) | gzip"
            + " >/dev/null",
        ], to: 1), log: setting.directory.appending(path: "journalctl.log"))
    defer {
      for child in Self.children(of: peer.processIdentifier) { kill(child, SIGTERM) }
      Command.end(peer)
    }
    sleep(2)
    var figures = LogFigures()
    figures.lines = Self.rate * setting.seconds
    let memory = try agent.anonymousKiB
    let records = try arrived().count
    let used = agent.processorSeconds
    let others = Self.children(of: peer.processIdentifier)
    let usedByOthers = others.reduce(0) { $0 + Command.processorSeconds($1) }
    let load = try Command.start(
      writer(container, seconds: setting.seconds), log: setting.directory.appending(path: "writer.log"))
    defer { Command.end(load) }
    let connection = try LoopbackClient.open(port: Self.port)
    let other = try LoopbackClient.open(port: Self.nginxPort)
    defer {
      close(connection)
      close(other)
    }
    var nextLook = ContinuousClock.now + .seconds(1)
    let deadline = ContinuousClock.now + .seconds(60 + 10 * setting.seconds)
    while try load.isRunning || arrived().last != figures.lines {
      guard ContinuousClock.now < deadline else { throw Failure("the last line does not arrive") }
      while ContinuousClock.now < nextLook {
        figures.agentMilliseconds.append(try ping(connection))
        figures.nginxMilliseconds.append(try ping(other))
        usleep(Self.pause)
      }
      nextLook = ContinuousClock.now + .seconds(1)
      figures.growthKiB = max(figures.growthKiB, try agent.anonymousKiB - memory)
    }
    guard load.terminationStatus == 0 else { throw Failure("the writer failed") }
    figures.lost = max(0, figures.lines - (try arrived().count - records))
    figures.agentSeconds = agent.processorSeconds - used
    figures.journalctlSeconds = others.reduce(0) { $0 + Command.processorSeconds($1) } - usedByOthers
    progress(
      "\(figures.lines) lines: /ping \(Report.number(LogFigures.percentile(0.99, of: figures.agentMilliseconds)))"
        + " ms, nginx \(Report.number(LogFigures.percentile(0.99, of: figures.nginxMilliseconds))) ms")
    return figures
  }

  /// Milliseconds.
  private func ping(_ connection: Int32) throws -> Double {
    let begin = ContinuousClock.now
    try LoopbackClient.send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n", to: connection)
    guard try LoopbackClient.receive(connection).hasPrefix("HTTP/1.1 200") else {
      throw Failure("/ping fails")
    }
    return begin.duration(to: .now) / .milliseconds(1)
  }

  private func writer(_ container: String, seconds: Int) -> [String] {
    let program = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: "log-writer").path
    return Command.pinned([program, container, "\(seconds)", "\(Self.rate)"], to: 1)
  }

  private static func children(of process: pid_t) -> [pid_t] {
    let text = (try? Command.run(["pgrep", "-P", "\(process)"])) ?? ""
    return text.split(separator: "\n").compactMap { pid_t($0) }
  }

  // MARK: - The cloud

  private func startCloud() throws -> Process {
    let directory = setting.directory.appending(path: "cloud")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let cloud = try Command.start(
      Command.pinned(
        [
          "python3", "-B", "Tests/CloudStandIn", "--directory", directory.path, "--port", "\(Self.cloudPort)",
          "--plain-port", "\(Self.plainPort)", "--page", "\(Self.pagePort)", "--image", setting.image,
          "--command", "sleep 2147483647", "--device", "127.0.0.1:\(Self.port)",
        ], to: 1), log: setting.directory.appending(path: "cloud.log"))
    _ = try wait(for: "the cloud") { LoopbackClient.request("GET", "/state", port: Self.pagePort) }
    return cloud
  }

  /// Records that the cloud has of the device, and the number of the last line of the load among the newest.
  private func arrived() throws -> (count: Int, last: Int) {
    struct Page: Decodable {
      struct Device: Decodable {
        struct Record: Decodable { let message: String }
        let records: Int
        let logs: [Record]
      }
      let devices: [Device]
    }
    guard let answer = LoopbackClient.request("GET", "/state", port: Self.pagePort) else {
      throw Failure("the cloud's page does not answer")
    }
    guard let device = try JSONDecoder().decode(Page.self, from: answer.body).devices.first else {
      return (0, 0)
    }
    let numbers = device.logs.compactMap { record -> Int? in
      guard record.message.hasPrefix("load-") else { return nil }
      return Int(record.message.dropFirst(5).prefix { $0.isNumber })
    }
    return (device.records, numbers.last ?? 0)
  }

  private func wait<Value>(for what: String, _ condition: () throws -> Value?) throws -> Value {
    let deadline = ContinuousClock.now + .seconds(120)
    while ContinuousClock.now < deadline {
      if let value = try condition() { return value }
      usleep(100_000)
    }
    throw Failure("not within 120 s: \(what)")
  }
}
