import EventLoop
import TestSupport
import Testing

extension EventLoopTests {
  /// What the executor does is seen on a real process: under `swift test` the stock executor runs.
  @Suite struct ExecutorTests {
    @Test func tasksTimersSignalsAndForeignThreadsMeetOnOneThread() async throws {
      LoopDriver.start()
      let probe = try #require(LoopDriver.product("loop-probe"))
      let outcome = try await ChildProcess.run(probe, timeout: .seconds(30))
      let lines = String(decoding: outcome.output, as: UTF8.self).split(separator: "\n").map(String.init)
      #expect(
        lines == [
          "slept true", "clocks", "async let 3", "group 4950", "cancelled CancellationError",
          "signals true", "from a foreign thread", "woken true", "wake-ups while asleep 1", "Threads:\t1",
        ])
      #expect(outcome.end == .exited(status: 7))
    }
  }
}
