/// A point in wall-clock time as the engine writes it (RFC 3339), in UTC.
///
/// Texts do not compare: the engine drops trailing zeros of the fraction.
public nonisolated struct Timestamp: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// Since 1970-01-01T00:00:00Z.
  public var seconds: Int64
  public var nanoseconds: Int32

  public init(seconds: Int64, nanoseconds: Int32 = 0) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
  }

  /// nil unless the text is `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`.
  public init?(_ text: String) {
    var scanner = Scanner(bytes: Array(text.utf8))
    guard let year = scanner.number(4), scanner.skip("-"), let month = scanner.number(2),
      scanner.skip("-"), let day = scanner.number(2), scanner.skip("T") || scanner.skip("t"),
      let hour = scanner.number(2), scanner.skip(":"), let minute = scanner.number(2),
      scanner.skip(":"), let second = scanner.number(2),
      (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
    else { return nil }
    var fraction: Int32 = 0
    if scanner.skip(".") {
      guard let value = scanner.fraction() else { return nil }
      fraction = value
    }
    guard let offset = scanner.offset(), scanner.isAtEnd else { return nil }
    let days = Timestamp.daysSinceEpoch(year: year, month: month, day: day)
    let time = Int64(hour * 3600 + minute * 60 + second)
    self.init(seconds: days * 86400 + time - Int64(offset), nanoseconds: fraction)
  }

  public static func < (a: Timestamp, b: Timestamp) -> Bool {
    (a.seconds, a.nanoseconds) < (b.seconds, b.nanoseconds)
  }

  /// `YYYY-MM-DDThh:mm:ssZ`, without the fraction.
  public var description: String {
    func pad(_ number: Int64, _ width: Int = 2) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    var days = seconds / 86400
    if seconds % 86400 < 0 { days -= 1 }
    let time = seconds - days * 86400
    // The inverse of `daysSinceEpoch`, in eras of 400 years that begin in March.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let day = shifted - era * 146_097
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
    let dayOfYear = day - (365 * year + year / 4 - year / 100)
    let month = (5 * dayOfYear + 2) / 153
    let isNextYear = month >= 10
    let date =
      "\(pad(year + era * 400 + (isNextYear ? 1 : 0), 4))-\(pad(month < 10 ? month + 3 : month - 9))-\(pad(dayOfYear - (153 * month + 2) / 5 + 1))"
    return "\(date)T\(pad(time / 3600)):\(pad(time / 60 % 60)):\(pad(time % 60))Z"
  }

  /// Days of the proleptic Gregorian calendar, counted in years that begin in March, so that
  /// the leap day is a year's last.
  private static func daysSinceEpoch(year: Int, month: Int, day: Int) -> Int64 {
    let marchYear = month > 2 ? year : year - 1
    let monthFromMarch = (month + 9) % 12
    let daysBefore = (153 * monthFromMarch + 2) / 5
    let leapDays = marchYear / 4 - marchYear / 100 + marchYear / 400
    return Int64(365 * marchYear + leapDays + daysBefore + day - 1) - 719_468
  }

  private struct Scanner {
    let bytes: [UInt8]
    var position = 0

    var isAtEnd: Bool { position == bytes.count }

    mutating func skip(_ character: Character) -> Bool {
      guard position < bytes.count, bytes[position] == character.asciiValue else { return false }
      position += 1
      return true
    }

    mutating func digit() -> Int? {
      guard position < bytes.count, (48...57).contains(bytes[position]) else { return nil }
      defer { position += 1 }
      return Int(bytes[position]) - 48
    }

    mutating func number(_ count: Int) -> Int? {
      var value = 0
      for _ in 0..<count {
        guard let digit = digit() else { return nil }
        value = value * 10 + digit
      }
      return value
    }

    /// Nanoseconds; digits beyond the ninth are dropped.
    mutating func fraction() -> Int32? {
      guard let first = digit() else { return nil }
      var value = Int32(first)
      var count = 1
      while let digit = digit() {
        if count < 9 { value = value * 10 + Int32(digit) }
        count = min(count + 1, 9)
      }
      while count < 9 {
        value *= 10
        count += 1
      }
      return value
    }

    /// Seconds east of UTC.
    mutating func offset() -> Int? {
      if skip("Z") || skip("z") { return 0 }
      let sign = skip("+") ? 1 : skip("-") ? -1 : 0
      guard sign != 0, let hours = number(2), skip(":"), let minutes = number(2) else { return nil }
      return sign * (hours * 3600 + minutes * 60)
    }
  }
}
