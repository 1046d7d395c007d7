import EventLoop
import Glibc
import TestSupport
import Testing

extension EventLoopTests {
  @Suite struct TimerTests {
    let loop = EventLoop.shared

    @Test func timersFireInTheOrderOfTheirDeadlines() async throws {
      LoopDriver.start()
      var fired: [Int] = []
      let timers = [3, 1, 2].map { rank in
        loop.schedule(after: .milliseconds(rank * 5)) { fired.append(rank) }
      }
      try await loop.sleep(for: .milliseconds(40))
      #expect(fired == [1, 2, 3])
      #expect(timers.allSatisfy { !$0.isScheduled })
    }

    @Test func aCancelledTimerDoesNotFire() async throws {
      LoopDriver.start()
      var hasFired = false
      let timer = loop.schedule(after: .milliseconds(1)) { hasFired = true }
      timer.cancel()
      try await loop.sleep(for: .milliseconds(20))
      #expect(!hasFired)
    }

    @Test func aRestartedTimerFiresOnceAtItsNewTime() async throws {
      LoopDriver.start()
      var fires = 0
      let timer = loop.schedule(after: .milliseconds(1)) { fires += 1 }
      timer.restart(after: .milliseconds(10))
      timer.restart(after: .milliseconds(5))
      try await loop.sleep(for: .milliseconds(40))
      #expect(fires == 1)
    }

    @Test func aTimerInThePastFiresInTheNextTurn() {
      var hasFired = false
      _ = loop.schedule(after: .seconds(-5)) { hasFired = true }
      loop.turn(mayWait: false)
      #expect(hasFired)
    }

    @Test func aTimerWithinItsToleranceRidesOnAnEarlierWakeUp() async throws {
      LoopDriver.start()
      let tolerance = Duration.seconds(100)
      let endOfWindow = MonotonicTime.read() + tolerance
      var fired: [String] = []
      let tolerant = loop.schedule(after: .zero, tolerance: tolerance) { fired.append("tolerant") }
      _ = loop.schedule(after: .zero) { fired.append("strict") }
      // A timer that another test has left may end before the window does, and goes first.
      while tolerant.isScheduled { try await loop.sleep(for: .milliseconds(2)) }
      #expect(fired == ["strict", "tolerant"])
      #expect(MonotonicTime.read() < endOfWindow)
    }

    @Test func thousandsOfCancelledTimersLeaveTheHeap() {
      for _ in 0..<5000 { loop.schedule(after: .seconds(3600)) {}.cancel() }
      var hasFired = false
      _ = loop.schedule(after: .zero) { hasFired = true }
      loop.turn(mayWait: false)
      #expect(hasFired)
      #expect(loop.scheduledTimerCount < 200)
    }

    @Test func aSleepingTaskThatIsCancelledThrowsAtOnce() async {
      LoopDriver.start()
      let task = Task { try await loop.sleep(for: .seconds(3600)) }
      await Task.yield()
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test func aTaskThatIsAlreadyCancelledDoesNotSleep() async {
      LoopDriver.start()
      let task = Task {
        while !Task.isCancelled { await Task.yield() }
        try await loop.sleep(for: .seconds(3600))
      }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test func durationsBecomeNanosecondsWithoutOverflow() {
      #expect(Duration.seconds(-1).clampedNanoseconds == 0)
      #expect(Duration.milliseconds(1500).clampedNanoseconds == 1_500_000_000)
      #expect(Duration.seconds(Int64.max).clampedNanoseconds == .max)
      #expect(MonotonicTime(nanoseconds: .max) + .seconds(1) == MonotonicTime(nanoseconds: .max))
      #expect(
        MonotonicTime(nanoseconds: 5) - MonotonicTime(nanoseconds: 8) == .nanoseconds(-3))
    }
  }
}
