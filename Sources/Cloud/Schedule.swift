import EventLoop

// When the cloud is asked again (cloud 2.2, 11.3). Pure values: the same code runs in the agent
// and, a million times over, in the simulation behind docs/scale.md.

/// Names of what is waited for, in one place.
public nonisolated enum CloudTimes {
  /// Added to the poll interval, uniformly, at each poll.
  public static let pollJitter = Duration.seconds(60)
  /// Longest wait of the first poll after a start, when there is a target already.
  public static let bootJitter = Duration.seconds(60)
  /// First step of the back-off.
  public static let firstRetry = Duration.seconds(15)
  /// Bounds of what `Retry-After` may ask for.
  public static let retryAfterRange = Duration.seconds(1)...Duration.seconds(3600)
  /// A whole exchange with the cloud, a slow-drip answer included.
  public static let exchange = Duration.seconds(300)
}

/// What a failed exchange says about the next one.
public nonisolated struct RetryAdvice: Sendable, Hashable {
  /// Of `Retry-After`, within its bounds.
  public var after: Duration?
  /// 429 or 503: the other side is overloaded.
  public var isOverloaded: Bool
  /// The device's clock is at a time when no certificate can be valid: it will be set before long, and nothing else
  /// is wrong.
  public var isClockWrong = false

  public init(after: Duration? = nil, isOverloaded: Bool = false, isClockWrong: Bool = false) {
    self.after = after
    self.isOverloaded = isOverloaded
    self.isClockWrong = isClockWrong
  }

  /// Of an answer. `Retry-After` is in seconds or a date (RFC 9110 section 10.2.3); anything else, and
  /// a negative number, says nothing.
  ///
  /// - Parameter now: seconds since 1970.
  public init(status: Int, retryAfter: String?, now: Int) {
    isOverloaded = status == 429 || status == 503
    after = retryAfter.flatMap { Self.seconds(in: $0, now: now) }.map { seconds in
      let range = CloudTimes.retryAfterRange
      return min(max(.seconds(min(seconds, 86_400)), range.lowerBound), range.upperBound)
    }
  }

  private static func seconds(in text: String, now: Int) -> Int? {
    let text = text.filter { $0 != "\t" }
    let digits = text.drop { $0 == " " }.prefix { $0 != " " }
    if !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }) {
      return digits.count > 9 ? 999_999_999 : Int(digits)
    }
    return HTTPDate.parse(text).map { max($0 - now, 0) }
  }
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

/// Dates as HTTP writes them (RFC 9110 section 5.6.7, IMF-fixdate).
public nonisolated enum HTTPDate {
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// Seconds since 1970; nil for anything else.
  public static func parse(_ text: String) -> Int? {
    let words = text.split(separator: " ")
    guard words.count == 6, words[0].last == ",", words[5] == "GMT",
      let day = Int(words[1]), (1...31).contains(day), let year = Int(words[3]), (1900...9999).contains(year),
      let month = months.firstIndex(of: String(words[2]))
    else { return nil }
    let time = words[4].split(separator: ":").compactMap { Int($0) }
    guard time.count == 3, (0...23).contains(time[0]), (0...59).contains(time[1]), (0...60).contains(time[2])
    else { return nil }
    return days(year: year, month: month + 1, day: day) * 86_400 + time[0] * 3600 + time[1] * 60 + time[2]
  }

  /// Days since 1970-01-01 of the Gregorian calendar. Years are counted from March on, so that a
  /// leap day is the last one of its year.
  private static func days(year: Int, month: Int, day: Int) -> Int {
    let year = month <= 2 ? year - 1 : year
    let era = year / 400
    let yearOfEra = year - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}
