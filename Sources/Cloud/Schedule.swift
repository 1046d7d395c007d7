import EventLoop
public import HTTPClient

// When the cloud is asked again (cloud 2.2, 11.3). Pure values: the same code runs in the agent
// and, a million times over, in the simulation behind docs/scale.md.

/// Names of what is waited for, in one place.
public nonisolated enum CloudTimes {
  /// Added to the poll interval, uniformly, at each poll.
  public static let pollJitter = Duration.seconds(60)
  /// Longest wait of the first poll after a start, when there is a target already.
  public static let bootJitter = Duration.seconds(60)
  /// First step of the back-off.
  public static let firstRetry = RetryAdvice.overloadDelay
  /// A whole exchange with the cloud, a slow-drip answer included.
  public static let exchange = Duration.seconds(300)
}

/// Growing delays with full jitter: `U(b/2, b)`, `b = min(limit, first * 2^n)`.
public nonisolated struct BackOff: Sendable, Hashable {
  public private(set) var failures = 0
  public var first: Duration
  public var limit: Duration

  public init(first: Duration = CloudTimes.firstRetry, limit: Duration) {
    self.first = first
    self.limit = limit
  }

  public mutating func succeed() { failures = 0 }

  /// The delay before the next try. What the other side asks for counts, lengthened by up to a
  /// fifth so that not all come back at once.
  public mutating func fail(
    _ advice: RetryAdvice = RetryAdvice(), using random: inout some RandomNumberGenerator
  ) -> Duration {
    if advice.isClockWrong { return CloudTimes.firstRetry }
    let bound = min(max(limit, .seconds(1)), first * (1 << min(failures, 20)))
    failures += 1
    var delay = Duration.random(bound / 2...bound, using: &random)
    if let after = advice.after { delay = after + .random(.zero...after / 5, using: &random) }
    if advice.isOverloaded, delay < CloudTimes.firstRetry {
      delay = CloudTimes.firstRetry + .random(.zero...CloudTimes.firstRetry / 5, using: &random)
    }
    return delay
  }
}

/// When the target is polled.
public nonisolated struct PollSchedule: Sendable, Hashable {
  /// Between two polls, without the jitter; read anew before each delay is drawn.
  public var interval: Duration {
    didSet { backOff.limit = interval }
  }
  private var backOff: BackOff

  public init(interval: Duration) {
    self.interval = interval
    backOff = BackOff(limit: interval)
  }

  public var failures: Int { backOff.failures }

  /// Before the first poll after a start: none for a device that has no target yet, a short random one
  /// for others; a whole cycle when updates are not wanted at once.
  public func first(
    isTargetStored: Bool, isInstant: Bool, using random: inout some RandomNumberGenerator
  ) -> Duration {
    guard isInstant else { return cycle(using: &random) }
    guard isTargetStored else { return .zero }
    return .random(.zero...min(CloudTimes.bootJitter, interval / 10), using: &random)
  }

  public mutating func succeed(using random: inout some RandomNumberGenerator) -> Duration {
    backOff.succeed()
    return cycle(using: &random)
  }

  public mutating func fail(
    _ advice: RetryAdvice = RetryAdvice(), using random: inout some RandomNumberGenerator
  ) -> Duration {
    backOff.fail(advice, using: &random)
  }

  /// Less than 1.5 intervals, or the cloud takes the device for offline.
  private func cycle(using random: inout some RandomNumberGenerator) -> Duration {
    let jitter = interval < CloudTimes.pollJitter * 2 ? interval / 2 : CloudTimes.pollJitter
    return interval + .random(.zero...jitter, using: &random)
  }
}

nonisolated extension Duration {
  /// Uniform, to the microsecond.
  public static func random(
    _ range: ClosedRange<Duration>, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    let low = Int64(range.lowerBound.clampedNanoseconds / 1000)
    let high = Int64(range.upperBound.clampedNanoseconds / 1000)
    return .microseconds(Int64.random(in: low...max(low, high), using: &generator))
  }
}
