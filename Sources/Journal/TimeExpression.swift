import CSystemd
import Glibc

/// Points in time as people write them (systemd.time(7), "PARSING TIMESTAMPS"): absolute, with or
/// without weekday, seconds, fraction and zone; `now`, `today`, `yesterday`, `tomorrow`; `+5min`,
/// `-2h`, `3 days ago`, `1h left`; `@1700000000.5`.
public enum TimeExpression {
  /// Years beyond 9999 have no text form.
  private static let latest: UInt64 = 253_402_214_399_000_000
  private static let zoneDirectory = "/usr/share/zoneinfo/"

  /// - Parameter now: microseconds since the epoch; what relative forms count from.
  /// - Returns: microseconds since the epoch; nil when the text is no point in time.
  public static func parse(_ text: String, now: UInt64) -> UInt64? {
    guard !text.utf8.contains(0) else { return nil }
    LocalZone.refresh()
    if let blank = text.lastIndex(of: " ") {
      let zone = String(text[text.index(after: blank)...])
      if isZone(zone), !endsWithUTC(text) {
        // Nothing else of the program runs meanwhile, and the zone is back before it does.
        csystemd_zone_begin(":\(zone)")
        defer { csystemd_zone_end() }
        let isOwnName = (0...1).contains { String(cString: csystemd_zone_name($0)) == zone }
        return parse(isOwnName ? text : String(text[..<blank]), now: now, isZoneGiven: !isOwnName)
      }
    }
    return parse(text, now: now, isZoneGiven: false)
  }

  // MARK: Zones

  private static func endsWithUTC(_ text: String) -> Bool { text.lowercased().hasSuffix(" utc") }

  private static func isZone(_ name: String) -> Bool {
    if name == "UTC" { return true }
    guard !name.isEmpty, !name.hasPrefix("/"), !name.hasSuffix("/"), !name.contains("//"),
      name.utf8.allSatisfy({ isZoneByte($0) })
    else { return false }
    let file = open(zoneDirectory + name, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    var magic: [UInt8] = [0, 0, 0, 0]
    return read(file, &magic, 4) == 4 && magic == Array("TZif".utf8)
  }

  private static func isZoneByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "+"),
      UInt8(ascii: "/"):
      true
    default: false
    }
  }

  // MARK: Relative forms

  private static func parse(_ text: String, now: UInt64, isZoneGiven: Bool) -> UInt64? {
    if !isZoneGiven {
      if text.hasPrefix("@") { return TimeSpan.parse(String(text.dropFirst())) }
      if text == "now" { return now }
      if text.hasPrefix("+") { return TimeSpan.parse(String(text.dropFirst())).flatMap { add(now, $0) } }
      if text.hasPrefix("-") { return TimeSpan.parse(String(text.dropFirst())).flatMap { subtract(now, $0) } }
      if text.hasSuffix(" ago") {
        return TimeSpan.parse(String(text.dropLast(4))).flatMap { subtract(now, $0) }
      }
      if text.hasSuffix(" left") { return TimeSpan.parse(String(text.dropLast(5))).flatMap { add(now, $0) } }
      if endsWithUTC(text) {
        return absolute(String(text.dropLast(4)), now: now, isUTC: true, daylight: -1)
      }
      for daylight in 0...1 {
        let name = String(cString: csystemd_zone_name(Int32(daylight)))
        guard !name.isEmpty, text.lowercased().hasSuffix(" \(name.lowercased())") else { continue }
        return absolute(
          String(text.dropLast(name.count + 1)), now: now, isUTC: false, daylight: Int32(daylight))
      }
    }
    return absolute(text, now: now, isUTC: false, daylight: -1)
  }

  private static func add(_ time: UInt64, _ span: UInt64) -> UInt64? {
    let (sum, overflow) = time.addingReportingOverflow(span)
    return overflow || sum > latest ? nil : sum
  }

  private static func subtract(_ time: UInt64, _ span: UInt64) -> UInt64? {
    time >= span ? time - span : nil
  }

  // MARK: Absolute forms

  private static let weekdays = [
    "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
  ]

  private nonisolated enum Precision {
    /// A fraction of the second may follow.
    case seconds
    case minutes
    case days
  }

  private static let forms: [(format: String, precision: Precision)] = [
    ("%y-%m-%d %H:%M:%S", .seconds), ("%Y-%m-%d %H:%M:%S", .seconds), ("%b %d %H:%M:%S", .seconds),
    ("%y-%m-%d %H:%M", .minutes), ("%Y-%m-%d %H:%M", .minutes), ("%y-%m-%d", .days), ("%Y-%m-%d", .days),
    ("%H:%M:%S", .seconds), ("%H:%M", .minutes),
  ]

  private static func absolute(_ text: String, now: UInt64, isUTC: Bool, daylight: Int32) -> UInt64? {
    var seconds = time_t(now / 1_000_000)
    var today = tm()
    guard (isUTC ? gmtime_r(&seconds, &today) : localtime_r(&seconds, &today)) != nil else { return nil }
    today.tm_isdst = daylight

    if let offset = ["today": 0, "yesterday": -1, "tomorrow": 1][text] {
      today.tm_mday += Int32(offset)
      (today.tm_hour, today.tm_min, today.tm_sec) = (0, 0, 0)
      return convert(today, isUTC: isUTC, fraction: 0)
    }

    let (weekday, rest) = splitWeekday(text)
    for (format, precision) in forms {
      var time = today
      let used = csystemd_parse_time(rest, format, &time)
      guard used >= 0 else { continue }
      let tail = Array(rest.utf8.dropFirst(used))
      var fraction: UInt64 = 0
      switch precision {
      case .seconds where tail.first == UInt8(ascii: "."):
        guard let value = parseFraction(tail[1...]) else { return nil }
        fraction = value
      default:
        guard tail.isEmpty else { continue }
        if precision != .seconds { time.tm_sec = 0 }
        if precision == .days { (time.tm_hour, time.tm_min) = (0, 0) }
      }
      if let weekday, time.tm_wday != weekday { return nil }
      return convert(time, isUTC: isUTC, fraction: fraction)
    }
    return nil
  }

  /// `Mon `, `Monday ` and so on, in any case.
  private static func splitWeekday(_ text: String) -> (Int32?, String) {
    guard let blank = text.firstIndex(of: " ") else { return (nil, text) }
    let word = text[..<blank].lowercased()
    guard let day = weekdays.firstIndex(where: { $0 == word || $0.prefix(3) == word }) else {
      return (nil, text)
    }
    return (Int32(day), String(text[text.index(after: blank)...]))
  }

  /// Digits after the point, rounded to microseconds.
  private static func parseFraction(_ digits: ArraySlice<UInt8>) -> UInt64? {
    guard !digits.isEmpty, digits.allSatisfy({ TimeSpan.isDigit($0) }) else { return nil }
    var value: UInt64 = 0
    for place in 0..<6 {
      let index = digits.startIndex + place
      value = value * 10 + (index < digits.endIndex ? UInt64(digits[index] - UInt8(ascii: "0")) : 0)
    }
    if digits.count > 6, digits[digits.startIndex + 6] >= UInt8(ascii: "5") { value += 1 }
    return value
  }

  private static func convert(_ time: tm, isUTC: Bool, fraction: UInt64) -> UInt64? {
    var time = time
    let seconds = isUTC ? timegm(&time) : mktime(&time)
    guard seconds >= 0, seconds <= Int(latest / 1_000_000) else { return nil }
    let microseconds = UInt64(seconds) * 1_000_000 + fraction
    return microseconds > latest ? nil : microseconds
  }
}

/// Time spans as people write them (systemd.time(7), "PARSING TIME SPANS"): `5min`, `2h 30s`, `1.5 days`.
public nonisolated enum TimeSpan {
  private static let units: [(name: String, microseconds: UInt64)] = [
    ("seconds", 1_000_000), ("second", 1_000_000), ("sec", 1_000_000), ("s", 1_000_000),
    ("minutes", 60_000_000), ("minute", 60_000_000), ("min", 60_000_000),
    ("months", 2_629_800_000_000), ("month", 2_629_800_000_000), ("M", 2_629_800_000_000),
    ("msec", 1000), ("ms", 1000), ("m", 60_000_000),
    ("hours", 3_600_000_000), ("hour", 3_600_000_000), ("hr", 3_600_000_000), ("h", 3_600_000_000),
    ("days", 86_400_000_000), ("day", 86_400_000_000), ("d", 86_400_000_000),
    ("weeks", 604_800_000_000), ("week", 604_800_000_000), ("w", 604_800_000_000),
    ("years", 31_557_600_000_000), ("year", 31_557_600_000_000), ("y", 31_557_600_000_000),
    ("usec", 1), ("us", 1), ("\u{3bc}s", 1), ("\u{b5}s", 1),
  ]

  static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\n")
      || byte == UInt8(ascii: "\r")
  }

  /// - Returns: microseconds; the largest number for `infinity`; nil when the text is no time span.
  ///   Numbers without a unit are seconds.
  public static func parse(_ text: String) -> UInt64? {
    var rest = Array(text.utf8)[...].drop(while: isBlank)
    if rest.starts(with: "infinity".utf8) {
      return rest.dropFirst(8).allSatisfy(isBlank) ? .max : nil
    }
    var total: UInt64 = 0
    var isEmpty = true
    while true {
      rest = rest.drop(while: isBlank)
      guard !rest.isEmpty else { return isEmpty ? nil : total }
      guard let part = parsePart(&rest) else { return nil }
      let (sum, overflow) = total.addingReportingOverflow(part)
      guard !overflow, sum < .max else { return nil }
      total = sum
      isEmpty = false
    }
  }

  /// A number with an optional fraction and an optional unit.
  private static func parsePart(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
    var number = rest
    if number.first == UInt8(ascii: "+") { number = number.dropFirst() }
    let whole = number.prefix(while: isDigit)
    if whole.isEmpty, number.startIndex != rest.startIndex { return nil }
    var afterNumber = number.dropFirst(whole.count)
    var fraction: ArraySlice<UInt8>?
    if afterNumber.first == UInt8(ascii: ".") {
      let digits = afterNumber.dropFirst().prefix(while: isDigit)
      guard !digits.isEmpty else { return nil }
      fraction = digits
      afterNumber = afterNumber.dropFirst(1 + digits.count)
    } else if whole.isEmpty {
      return nil
    }
    guard let value = whole.isEmpty ? 0 : Int64(String(decoding: whole, as: UTF8.self)) else { return nil }

    var unit: UInt64 = 1_000_000
    var next = afterNumber.drop(while: isBlank)
    if let (name, microseconds) = units.first(where: { next.starts(with: $0.name.utf8) }) {
      unit = microseconds
      next = next.dropFirst(name.utf8.count)
    }
    guard next.startIndex != afterNumber.startIndex || next.isEmpty else { return nil }
    rest = next

    let (product, overflow) = UInt64(value).multipliedReportingOverflow(by: unit)
    guard !overflow else { return nil }
    var total = product
    var place = unit / 10
    for digit in fraction ?? [] {
      total = total &+ UInt64(digit - UInt8(ascii: "0")) * place
      place /= 10
    }
    return total >= product ? total : nil
  }
}
