import Foundation

/// One agent of its own: directories, database and port.
final class AgentProcess {
  let port: Int
  private let setting: Setting
  private let directory: URL
  private let more: [String]
  private(set) var identifier: pid_t = 0

  /// - Parameters:
  ///   - name: names the directory; a name used before finds that agent's state again.
  ///   - port: below the kernel's range of ephemeral ports: a client that tries one of those before the server
  ///     listens can be given that very port and connect to itself.
  ///   - config: config.json of a new device.
  ///   - preload: apps.json of a new device.
  ///   - more: further arguments of the agent.
  init(
    _ setting: Setting, name: String, port: Int, config: String = "{}\n", preload: Data? = nil,
    more: [String] = []
  ) throws {
    self.setting = setting
    self.more = more
    self.port = port
    directory = setting.directory.appending(path: name)
    for part in ["boot", "state", "data", "host/tmp"] {
      try FileManager.default.createDirectory(
        at: directory.appending(path: part), withIntermediateDirectories: true)
    }
    let file = directory.appending(path: "boot/config.json")
    if !FileManager.default.fileExists(atPath: file.path) {
      try Data(config.utf8).write(to: file)
      try preload?.write(to: directory.appending(path: "data/apps.json"))
    }
  }

  private var arguments: [String] {
    func path(_ name: String) -> String { directory.appending(path: name).path }
    return [
      setting.binary, "--host-root", path("host"), "--boot", path("boot"), "--state", path("state"),
      "--data", path("data"), "--config", path("boot/config.json"), "--database", path("database.sqlite"),
      "--engine", setting.engine, "--listen", "127.0.0.1:\(port)",
    ] + more
  }

  /// Starts it and waits for its first answer.
  ///
  /// - Parameter pinned: on the servers' processor (see `Command.pinned`).
  /// - Returns: time from just before the process exists to the end of the first answered `/ping`.
  @discardableResult
  func start(pinned: Bool = false) throws -> Duration {
    let words = pinned ? Command.pinned(["/usr/bin/env"] + arguments, to: 0) : arguments
    let program = pinned && words[0] == "taskset" ? "/usr/bin/taskset" : words[0]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(
      &actions, 1, directory.appending(path: "agent.log").path, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }

    let begin = ContinuousClock.now
    let code = posix_spawn(&identifier, program, &actions, nil, &vector, environ)
    guard code == 0 else { throw Failure("\(program): \(String(cString: strerror(code)))") }
    while begin.duration(to: .now) < .seconds(20) {
      if LoopbackClient.request("GET", "/ping", port: port)?.status == 200 { return begin.duration(to: .now) }
      if waitpid(identifier, nil, WNOHANG) == identifier {
        identifier = 0
        throw Failure("the agent ended at once; \(directory.path)/agent.log:\n\(logTail)")
      }
      usleep(200)
    }
    throw Failure("the agent does not answer on port \(port); \(directory.path)/agent.log:\n\(logTail)")
  }

  /// SIGTERM, after ten seconds SIGKILL. Its containers stay.
  func stop() {
    guard identifier > 0 else { return }
    kill(identifier, SIGTERM)
    for _ in 0..<1000 {
      if waitpid(identifier, nil, WNOHANG) != 0 {
        identifier = 0
        return
      }
      usleep(10_000)
    }
    kill(identifier, SIGKILL)
    waitpid(identifier, nil, 0)
    identifier = 0
  }

  /// - Throws: `Failure` when it has ended or does not answer: containers that outlive a dead agent say nothing
  ///   for it.
  func requireAlive() throws {
    var status: Int32 = 0
    if identifier > 0, waitpid(identifier, &status, WNOHANG) == identifier {
      identifier = 0
      let signal = status & 0x7f
      throw Failure(
        "the agent ended \(signal == 0 ? "with status \(status >> 8 & 0xff)" : "by signal \(signal)")\n\(logTail)"
      )
    }
    guard LoopbackClient.request("GET", "/ping", port: port)?.status == 200 else {
      throw Failure("the agent does not answer on port \(port)\n\(logTail)")
    }
  }

  /// Processor time of user and system that it has taken.
  var processorSeconds: Double { Command.processorSeconds(identifier) }

  /// Pages that belong to it alone (proc(5), smaps_rollup).
  var anonymousKiB: Int {
    get throws { try procFields("/proc/\(identifier)/smaps_rollup")["Anonymous"] ?? 0 }
  }

  /// How often it gave up the processor by itself: it has one thread (proc(5), status).
  var waits: Int {
    get throws { try procFields("/proc/\(identifier)/status")["voluntary_ctxt_switches"] ?? 0 }
  }

  var logTail: String {
    let text = (try? String(contentsOf: directory.appending(path: "agent.log"), encoding: .utf8)) ?? ""
    return text.split(separator: "\n").suffix(40).joined(separator: "\n")
  }

  /// Posts a target state; returns when it was accepted, not when it is applied.
  func post(_ target: Data) throws {
    guard let answer = LoopbackClient.request("POST", "/v2/local/target-state", port: port, body: target)
    else {
      throw Failure("POST /v2/local/target-state: no answer")
    }
    guard answer.status == 200 else {
      throw Failure(
        "POST /v2/local/target-state: \(answer.status) \(String(decoding: answer.body, as: UTF8.self))")
    }
  }
}
