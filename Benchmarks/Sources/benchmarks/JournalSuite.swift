import Foundation

/// `POST /v2/journal-logs` next to journalctl, to systemd's own gateway and to a plain loop over libsystemd, on the
/// same files in the same minutes; then what streams do to memory and to other requests; then how soon a
/// follower has a new entry.
struct JournalSuite {
  let setting: Setting
  nonisolated static let streams = 4
  private static let followed = 200
  private static let apart = 20
  private static let alone = 8
  private static let pings = 2000
  private static let nativeSocket = "/run/systemd/journal/socket"
  /// systemd-journal-gatewayd has no option for another.
  private static let gatewayPort = 19_531
  private static let gatewayTypes = [
    "json": "application/json", "short": "text/plain", "export": "application/vnd.fdo.journal",
  ]

  func run() throws -> JournalFigures {
    progress("writing \(JournalFile.entries) entries")
    let files = try JournalFile.make(in: setting.directory)
    var figures = JournalFigures()
    try withAgent("journal", port: 18_591, files) { try measureFormats($0, files, &figures) }
    // One that has read nothing before: what the streams leave counts as theirs.
    try withAgent("streams", port: 18_593, files) { try measureStreams($0, &figures) }
    try measureFollowing(&figures)
    return figures
  }

  private func withAgent(_ name: String, port: Int, _ files: URL, _ body: (AgentProcess) throws -> Void)
    throws
  {
    let agent = try AgentProcess(
      setting, name: name, port: port, more: ["--journal-directory", files.path])
    try agent.start()
    defer { agent.stop() }
    try body(agent)
    try agent.requireAlive()
  }

  // MARK: - Whole reads

  private func measureFormats(_ agent: AgentProcess, _ files: URL, _ figures: inout JournalFigures) throws {
    let gateway = try Command.start(
      ["/lib/systemd/systemd-journal-gatewayd", "--directory=\(files.path)"],
      log: setting.directory.appending(path: "gateway.log"))
    defer { Command.end(gateway) }
    sleep(1)
    let loop = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: "journal-loop").path
    for round in 0..<setting.rounds {
      figures.loopSeconds.append(try seconds([loop, files.path]))
      for format in ["json", "short", "export"] {
        let readers: [(WritableKeyPath<FormatFigures, [Double]>, [String])] = [
          (\.agentSeconds, Self.request("{\"format\":\"\(format)\"}", port: agent.port)),
          (\.journalctlSeconds, ["journalctl", "--no-pager", "--directory", files.path, "-o", format]),
          (
            \.gatewaySeconds,
            [
              "curl", "-sSf", "-o", "/dev/null", "-H", "Accept: \(Self.gatewayTypes[format] ?? "")",
              "http://127.0.0.1:\(Self.gatewayPort)/entries",
            ]
          ),
        ]
        var times = figures.formats[format] ?? FormatFigures()
        for (times_, words) in round.isMultiple(of: 2) ? readers : readers.reversed() {
          times[keyPath: times_].append(try seconds(words))
        }
        figures.formats[format] = times
        progress(
          "\(format): agent \(Report.number(times.agentSeconds[round])) s, "
            + "journalctl \(Report.number(times.journalctlSeconds[round])) s, "
            + "gateway \(Report.number(times.gatewaySeconds[round])) s")
      }
    }
  }

  private static func request(_ body: String, port: Int) -> [String] {
    [
      "curl", "-sSf", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", body,
      "http://127.0.0.1:\(port)/v2/journal-logs",
    ]
  }

  /// Of a program whose output nobody reads.
  private func seconds(_ words: [String]) throws -> Double {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = words
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    let begin = ContinuousClock.now
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure("\(words.joined(separator: " ")): status \(process.terminationStatus)")
    }
    return begin.duration(to: .now) / .seconds(1)
  }

  // MARK: - Streams and other requests

  private func measureStreams(_ agent: AgentProcess, _ figures: inout JournalFigures) throws {
    let before = try agent.anonymousKiB
    let stalled = try LoopbackClient.open(port: agent.port)
    defer { close(stalled) }
    let body = "{\"format\":\"json\"}"
    try LoopbackClient.send(
      "POST /v2/journal-logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)", to: stalled)
    var readers: [Process] = []
    defer { for reader in readers { Command.end(reader) } }
    func keepStreaming() throws {
      readers.removeAll { !$0.isRunning }
      while readers.count < Self.streams {
        readers.append(
          try Command.start(
            Self.request(body, port: agent.port), log: setting.directory.appending(path: "curl.log")))
      }
    }
    let connection = try LoopbackClient.open(port: agent.port)
    defer { close(connection) }
    for number in 0..<Self.pings {
      if number.isMultiple(of: 20) {
        try keepStreaming()
        figures.streamKiB = max(figures.streamKiB, try agent.anonymousKiB - before)
      }
      let begin = ContinuousClock.now
      try LoopbackClient.send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n", to: connection)
      guard try LoopbackClient.receive(connection).hasPrefix("HTTP/1.1 200") else {
        throw Failure("/ping fails")
      }
      figures.pingMilliseconds.append(begin.duration(to: .now) / .milliseconds(1))
      usleep(1000)
    }
    progress("\(Self.streams) streams and a stalled one: \(figures.streamKiB) KiB more")
  }

  // MARK: - Following

  private func measureFollowing(_ figures: inout JournalFigures) throws {
    let agent = try AgentProcess(
      setting, name: "follow", port: 18_592, more: ["--journal-directory", "/run/log/journal"])
    try agent.start()
    defer { agent.stop() }
    let sender = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    guard sender >= 0 else { throw Failure("socket: \(errno)") }
    defer { close(sender) }
    let stream = try LoopbackClient.open(port: agent.port)
    defer { close(stream) }
    let body = "{\"follow\":true,\"count\":1,\"format\":\"cat\",\"containerId\":\"benchmark-follow\"}"
    try write("first", to: sender)
    sleep(1)
    try LoopbackClient.send(
      "POST /v2/journal-logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)", to: stream)
    try wait(for: "first", on: stream)
    sleep(2)
    let waits = try agent.waits
    for number in 0..<Self.followed {
      let begin = ContinuousClock.now
      try write("entry number \(number).", to: sender)
      try wait(for: "entry number \(number).", on: stream)
      figures.followMilliseconds.append(begin.duration(to: .now) / .milliseconds(1))
      usleep(20_000)
    }
    figures.wakeUpsPerEntry = Double(try agent.waits - waits) / Double(Self.followed)
    for number in 0..<Self.apart {
      usleep(700_000)
      let begin = ContinuousClock.now
      try write("entry apart \(number).", to: sender)
      try wait(for: "entry apart \(number).", on: stream)
      figures.apartMilliseconds.append(begin.duration(to: .now) / .milliseconds(1))
    }
    try measureAlone(stream, sender, &figures)
    progress(
      "a follower has an entry after \(Report.number(figures.followMilliseconds.median)) ms, a lone one after "
        + "\(Report.number(figures.aloneMilliseconds.median)) ms, journalctl after "
        + "\(Report.number(figures.journalctlAloneMilliseconds.median)) ms")
  }

  /// Entries that nothing preceded for a while, next to `journalctl --follow`.
  private func measureAlone(_ stream: Int32, _ sender: Int32, _ figures: inout JournalFigures) throws {
    let peer = Process()
    let output = Pipe()
    peer.executableURL = URL(filePath: "/usr/bin/env")
    peer.arguments = [
      "journalctl", "--directory", "/run/log/journal", "--follow", "--lines=1", "--output=cat",
      "--identifier",
      "benchmark-follow",
    ]
    peer.standardOutput = output
    peer.standardInput = FileHandle.nullDevice
    try peer.run()
    defer { Command.end(peer) }
    for number in 0..<Self.alone {
      sleep(6)
      let text = "lone entry \(number)."
      let begin = ContinuousClock.now
      try write(text, to: sender)
      try wait(for: text, on: stream)
      figures.aloneMilliseconds.append(begin.duration(to: .now) / .milliseconds(1))
      var received = ""
      while !received.contains(text) {
        let data = output.fileHandleForReading.availableData
        guard !data.isEmpty else { throw Failure("journalctl --follow ended") }
        received += String(decoding: data, as: UTF8.self)
      }
      figures.journalctlAloneMilliseconds.append(begin.duration(to: .now) / .milliseconds(1))
    }
  }

  /// By journald's native protocol (systemd.io, "Native Journal Protocol").
  private func write(_ message: String, to descriptor: Int32) throws {
    let bytes = Array("MESSAGE=\(message)\nSYSLOG_IDENTIFIER=benchmark-follow\n".utf8)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Self.nativeSocket.utf8) }
    let sent = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(descriptor, bytes, bytes.count, 0, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard sent == bytes.count else {
      throw Failure("\(Self.nativeSocket): \(String(cString: strerror(errno)))")
    }
  }

  private func wait(for text: String, on descriptor: Int32) throws {
    var received = ""
    while !received.contains(text) { received += try LoopbackClient.receive(descriptor) }
  }
}
