import CSystemd
import Glibc

/// Local time as text, made anew only when the second changes.
struct LocalClock {
  enum Style {
    /// `Nov 23 06:04:57`
    case syslog
    /// `2026-11-23T06:04:57`, zone `+0000`
    case iso
    /// `Mon 2026-11-23 06:04:57`, zone ` UTC`
    case full
  }

  private(set) var head: [UInt8] = []
  private(set) var zone: [UInt8] = []
  private var second: UInt64?

  private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  init() {}

  /// - Parameter realtime: microseconds since the epoch.
  mutating func setTo(_ realtime: UInt64, _ style: Style) {
    let seconds = realtime / 1_000_000
    guard seconds != second else { return }
    second = seconds
    var moment = time_t(seconds)
    var time = tm()
    localtime_r(&moment, &time)
    let clock = "\(Self.two(time.tm_hour)):\(Self.two(time.tm_min)):\(Self.two(time.tm_sec))"
    let date = "\(time.tm_year + 1900)-\(Self.two(time.tm_mon + 1))-\(Self.two(time.tm_mday))"
    switch style {
    case .syslog:
      head = Array("\(Self.months[Int(time.tm_mon)]) \(Self.two(time.tm_mday)) \(clock)".utf8)
      zone = []
    case .iso:
      head = Array("\(date)T\(clock)".utf8)
      let minutes = abs(time.tm_gmtoff) / 60
      let sign = time.tm_gmtoff < 0 ? "-" : "+"
      zone = Array("\(sign)\(Self.two(Int32(minutes / 60)))\(Self.two(Int32(minutes % 60)))".utf8)
    case .full:
      head = Array("\(Self.weekdays[Int(time.tm_wday)]) \(date) \(clock)".utf8)
      zone = time.tm_zone.map { Array(" \(String(cString: $0))".utf8) } ?? []
      if zone.count == 1 { zone = [] }
    }
  }

  private static func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
