import EventLoop
import Testing

@testable import StateEngine

@Suite struct ImageBackOffTests {
  @Test(arguments: [
    (500, "500ms"), (1000, "1s"), (4000, "4s"), (64_000, "1m"), (900_000, "15m"), (3_600_000, "1h"),
    (86_400_000, "1d"),
  ])
  func aDelayIsToldByItsLargestUnit(milliseconds: Int, text: String) {
    #expect(Duration.milliseconds(milliseconds).compactText == text)
  }

  @Test func theDelayDoublesFromOneSecondToThePollInterval() {
    let interval = Duration.milliseconds(900_000)
    let delays = (1...12).map { ImageBackOff.delay(failures: $0, pollInterval: interval) }
    #expect(delays.prefix(4) == [.seconds(1), .seconds(2), .seconds(4), .seconds(8)])
    #expect(delays[9] == .seconds(512))
    #expect(delays[10] == interval && delays[11] == interval)
  }

  @Test func aFailedImageWaitsAtLeastTheDelayAndAtMostATenthMore() {
    var generator = SystemRandomNumberGenerator()
    let now = MonotonicTime.read()
    for failures in 1...12 {
      var backOff = ImageBackOff()
      for _ in 1...failures { backOff.fail("a", at: now, using: &generator) }
      let delay = ImageBackOff.delay(failures: failures, pollInterval: backOff.pollInterval)
      let retry = backOff.nextRetry(after: now)
      #expect(retry.map { $0 - now >= delay && $0 - now <= delay * 1.1 } ?? false)
      #expect(backOff.waiting(at: now) == ["a"])
      #expect(backOff.waiting(at: now + delay * 1.2) == [])
    }
  }

  @Test func aSuccessBeginsAnew() {
    var generator = SystemRandomNumberGenerator()
    let now = MonotonicTime.read()
    var backOff = ImageBackOff()
    for _ in 1...5 { backOff.fail("a", at: now, using: &generator) }
    backOff.succeed("a")
    #expect(backOff.failures(of: "a") == 0 && backOff.waiting(at: now) == [])
  }

  @Test func theTableIsBounded() {
    var generator = SystemRandomNumberGenerator()
    let now = MonotonicTime.read()
    var backOff = ImageBackOff()
    for number in 0..<2000 {
      backOff.fail("image\(number)", at: now + .milliseconds(number), using: &generator)
    }
    #expect(backOff.waiting(at: now).count <= 512)
    #expect(backOff.failures(of: "image1999") == 1)
  }
}
