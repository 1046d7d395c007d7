import Foundation

/// What the agent costs while two services run and nothing happens. docs/footprint.md has the same by hand.
struct FootprintSuite {
  let setting: Setting
  /// Long enough for start-up work, caches and timers of the first minute to be over.
  static let settleSeconds: UInt32 = 30

  func run() throws -> Footprint {
    let fleet = Fleet(setting: setting)
    let agent = try AgentProcess(setting, name: "footprint", port: 18_586)
    try agent.start()
    defer {
      agent.stop()
      try? fleet.clear()
    }
    try agent.post(try fleet.target(services: 2))
    try fleet.wait(for: agent, count: 2)
    sleep(Self.settleSeconds)
    try agent.requireAlive()
    progress("idle for \(setting.idleSeconds) s")
    let before = try wakeUps(agent.identifier)
    let begin = ContinuousClock.now
    sleep(UInt32(setting.idleSeconds))
    let seconds = begin.duration(to: .now) / .seconds(1)
    let after = try wakeUps(agent.identifier)
    let memory = try procFields("/proc/\(agent.identifier)/smaps_rollup")
    let status = try procFields("/proc/\(agent.identifier)/status")
    guard let threads = status["Threads"], let anonymous = memory["Anonymous"], let pss = memory["Pss"],
      let rss = memory["Rss"]
    else { throw Failure("/proc/\(agent.identifier) lacks a field") }
    return Footprint(
      threads: threads, anonymousKiB: anonymous, pssKiB: pss, rssKiB: rss,
      wakeUpsPerMinute: Double(after - before) / seconds * 60, observedSeconds: seconds)
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
}
