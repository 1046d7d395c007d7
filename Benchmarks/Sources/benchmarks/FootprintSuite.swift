import Foundation

/// What the agent costs while nothing happens: memory with two services, wake-ups and processor with twenty as well.
/// docs/footprint.md has the same by hand.
struct FootprintSuite {
  let setting: Setting
  /// Long enough for start-up work, caches and timers of the first minute to be over.
  static let settleSeconds: UInt32 = 30
  nonisolated static let manyServices = 20

  func run() throws -> Footprint {
    // The agent keeps certificates that it is told to trust: this machine's are no part of the figure.
    unsetenv("NODE_EXTRA_CA_CERTS")
    let fleet = Fleet(setting: setting)
    let agent = try AgentProcess(setting, name: "footprint", port: 18_586)
    try agent.start()
    defer {
      agent.stop()
      try? fleet.clear()
    }
    let rest = try rest(agent, fleet, services: 2)
    let memory = try procFields("/proc/\(agent.identifier)/smaps_rollup")
    let status = try procFields("/proc/\(agent.identifier)/status")
    guard let threads = status["Threads"], let anonymous = memory["Anonymous"], let pss = memory["Pss"],
      let rss = memory["Rss"]
    else { throw Failure("/proc/\(agent.identifier) lacks a field") }
    let many = try self.rest(agent, fleet, services: Self.manyServices)
    return Footprint(
      threads: threads, anonymousKiB: anonymous, pssKiB: pss, rssKiB: rss,
      wakeUpsPerMinute: rest.wakeUpsPerMinute, observedSeconds: Double(setting.idleSeconds),
      processorPerMinute: rest.processorPerMinute, manyWakeUpsPerMinute: many.wakeUpsPerMinute,
      manyProcessorPerMinute: many.processorPerMinute)
  }

  /// Wake-ups, and milliseconds of processor, in a minute of a settled device.
  private func rest(
    _ agent: AgentProcess, _ fleet: Fleet, services: Int
  ) throws -> (wakeUpsPerMinute: Double, processorPerMinute: Double) {
    try agent.post(try fleet.target(services: services))
    try fleet.wait(for: agent, count: services)
    sleep(Self.settleSeconds)
    try agent.requireAlive()
    progress("\(services) services, idle for \(setting.idleSeconds) s")
    let before = (try wakeUps(agent.identifier), try processorNanoseconds(agent.identifier))
    let begin = ContinuousClock.now
    sleep(UInt32(setting.idleSeconds))
    let minutes = begin.duration(to: .now) / .seconds(60)
    return (
      Double(try wakeUps(agent.identifier) - before.0) / minutes,
      Double(try processorNanoseconds(agent.identifier) - before.1) / 1e6 / minutes
    )
  }

  /// proc(5), `schedstat`: what all threads had so far.
  private func processorNanoseconds(_ process: pid_t) throws -> Int {
    var sum = 0
    for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task") {
      let text = try String(contentsOfFile: "/proc/\(process)/task/\(thread)/schedstat", encoding: .utf8)
      guard let time = text.split(separator: " ").first.flatMap({ Int($0) }) else {
        throw Failure("/proc/\(process)/task/\(thread)/schedstat: \(text)")
      }
      sum += time
    }
    return sum
  }

  /// Each time a thread slept and was woken again it had switched voluntarily before.
  private func wakeUps(_ process: pid_t) throws -> Int {
    var sum = 0
    for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task") {
      guard let count = try procFields("/proc/\(process)/task/\(thread)/status")["voluntary_ctxt_switches"]
      else {
        throw Failure("/proc/\(process)/task/\(thread)/status has no voluntary_ctxt_switches")
      }
      sum += count
    }
    return sum
  }
}

nonisolated struct Footprint: Codable {
  var threads: Int
  var anonymousKiB: Int
  var pssKiB: Int
  var rssKiB: Int
  var wakeUpsPerMinute: Double
  var observedSeconds: Double
  /// In milliseconds.
  var processorPerMinute: Double
  /// With `FootprintSuite.manyServices`.
  var manyWakeUpsPerMinute: Double
  var manyProcessorPerMinute: Double
}
