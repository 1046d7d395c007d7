import Glibc
import HTTPClient
import Testing

@testable import Cloud

/// When the cloud is asked again (cloud 2.2, 11.3).
struct ScheduleTests {
  private func advice(_ text: String?, status: Int = 500, now: Int = 784_111_700) -> Duration? {
    RetryAdvice(status: status, retryAfter: text, now: now).after
  }

  @Test func retryAfterIsSecondsOrADateWithinASecondAndAnHour() {
    #expect(advice("120") == .seconds(120))
    #expect(advice(" 7 ") == .seconds(7))
    #expect(advice("0") == .seconds(1))
    #expect(advice("99999999999999999999") == .seconds(3600))
    #expect(advice("Sun, 06 Nov 1994 08:49:37 GMT") == .seconds(77))
    #expect(advice("Sun, 06 Nov 1994 08:00:00 GMT") == .seconds(1))
    for garbage in [
      "-5", "soon", "", "1.5", "5;", "Sun, 31 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT",
    ] {
      #expect(advice(garbage) == nil, "\(garbage)")
    }
    #expect(advice(nil) == nil)
  }

  @Test func datesCountLeapDays() {
    #expect(HTTPDate.parse("Thu, 01 Jan 1970 00:00:00 GMT") == 0)
    #expect(HTTPDate.parse("Thu, 29 Feb 2024 12:00:00 GMT") == 1_709_208_000)
    #expect(HTTPDate.parse("Wed, 31 Dec 2098 23:59:59 GMT") == 4_070_908_799)
  }

  @Test func backOffDoublesToItsLimitWithJitterBelow() {
    var random = SeededGenerator(1)
    var backOff = BackOff(limit: .seconds(600))
    for bound in [15, 30, 60, 120, 240, 480, 600, 600] as [Int64] {
      let delay = backOff.fail(using: &random)
      #expect(delay >= .seconds(bound) / 2 && delay <= .seconds(bound))
    }
    backOff.succeed()
    let first = backOff.fail(using: &random)
    #expect(first <= .seconds(15))
  }

  @Test func whatTheServerAsksForCountsAndOverloadIsNeverAnsweredFasterThanFifteenSeconds() {
    var random = SeededGenerator(2)
    for _ in 0..<1000 {
      var backOff = BackOff(limit: .seconds(600))
      let asked = backOff.fail(RetryAdvice(after: .seconds(50)), using: &random)
      #expect(asked >= .seconds(50) && asked <= .seconds(60))
      let overloaded = backOff.fail(RetryAdvice(after: .seconds(1), isOverloaded: true), using: &random)
      #expect(overloaded >= .seconds(15) && overloaded <= .seconds(18))
    }
  }

  @Test func aWrongClockIsWaitedForAtASteadyPaceByEverybody() {
    var random = SeededGenerator(9)
    let advice = RetryAdvice(isClockWrong: true)
    var backOff = BackOff(first: .seconds(5), limit: .seconds(600))
    var schedule = PollSchedule(interval: .seconds(600))
    var provisioning = ProvisioningDelay()
    for _ in 0..<20 {
      #expect(backOff.fail(advice, using: &random) == .seconds(15))
      #expect(schedule.fail(advice, using: &random) == .seconds(15))
      let delay = provisioning.fail(
        base: .seconds(30), isKeyRefused: false, advice: advice, using: &random)
      #expect(delay == .seconds(15))
    }
    #expect(backOff.failures == 0)
  }

  @Test func aCycleStaysBelowOneAndAHalfIntervals() {
    var random = SeededGenerator(3)
    for interval in [10, 60, 119, 120, 600, 900, 86_400] as [Int64] {
      var schedule = PollSchedule(interval: .seconds(interval))
      for _ in 0..<500 {
        let delay = schedule.succeed(using: &random)
        #expect(delay >= .seconds(interval) && delay <= .seconds(interval) * 1.5)
      }
    }
  }

  @Test func theFirstPollIsAtOnceForADeviceWithoutATargetAndSpreadForOthers() {
    var random = SeededGenerator(4)
    let schedule = PollSchedule(interval: .seconds(600))
    var latest = Duration.zero
    for _ in 0..<1000 {
      let new = schedule.first(isTargetStored: false, isInstant: true, using: &random)
      #expect(new == .zero)
      latest = max(latest, schedule.first(isTargetStored: true, isInstant: true, using: &random))
      let patient = schedule.first(isTargetStored: true, isInstant: false, using: &random)
      #expect(patient >= .seconds(600))
    }
    #expect(latest > .seconds(50) && latest <= .seconds(60))
  }

  /// A fleet in its steady state, an hour in which the cloud answers nothing, and the hours after it.
  @Test func afterAnOutageTheFleetComesBackBelowOneAndAHalfTimesTheMean() {
    // HERD_DEVICES=1000000 swift test -c release -Xswiftc -enable-testing --filter ScheduleTests
    let devices = getenv("HERD_DEVICES").flatMap { Int(String(cString: $0)) } ?? 20_000
    let herd = Herd(devices: devices, interval: 600, outage: 7200..<10_800, end: 18_000)
    let mean = herd.mean(from: 3600, to: 7200)
    let peak = herd.peak(from: 10_800, to: 18_000, window: 60)
    #expect(abs(mean / (Double(devices) / 630) - 1) < 0.02)
    #expect(peak <= 1.5 * mean, "peak \(peak), mean \(mean)")
    if devices > 20_000 { print("herd of \(devices): mean \(mean)/s, peak \(peak)/s") }
  }
}

/// Virtual devices that poll by the real scheduling code; counts polls by second.
nonisolated struct Herd {
  private(set) var counts: [Int]

  init(devices: Int, interval: Int, outage: Range<Int>, end: Int) {
    counts = Array(repeating: 0, count: end)
    var random = SeededGenerator(UInt64(devices))
    for _ in 0..<devices {
      var schedule = PollSchedule(interval: .seconds(interval))
      var time = Double.random(in: 0..<Double(interval), using: &random)
      while time < Double(end) {
        let second = Int(time)
        counts[second] += 1
        let delay =
          outage.contains(second) ? schedule.fail(using: &random) : schedule.succeed(using: &random)
        time += delay / .seconds(1)
      }
    }
  }

  /// Requests per second.
  func mean(from start: Int, to end: Int) -> Double {
    Double(counts[start..<end].reduce(0, +)) / Double(end - start)
  }

  /// The largest mean over a window of seconds.
  func peak(from start: Int, to end: Int, window: Int) -> Double {
    stride(from: start, to: end - window, by: window / 2).map { mean(from: $0, to: $0 + window) }.max() ?? 0
  }
}
