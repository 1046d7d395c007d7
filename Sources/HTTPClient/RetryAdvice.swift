/// What a failed exchange says about the next one.
public nonisolated struct RetryAdvice: Sendable, Hashable {
  /// Bounds of what `Retry-After` may ask for.
  public static let afterRange = Duration.seconds(1)...Duration.seconds(3600)
  /// An overloaded server is not asked again before.
  public static let overloadDelay = Duration.seconds(15)

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
      let range = Self.afterRange
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
