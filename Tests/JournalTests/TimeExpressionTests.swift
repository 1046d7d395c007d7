import EventLoop
import Glibc
import TestSupport
import Testing

@testable import Journal

/// The oracle is `systemd-analyze timestamp`.
@Suite(.serialized)
struct TimeExpressionTests {
  private static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec / 1000)
  }

  /// What systemd makes of the text; nil when it refuses it.
  private func oracle(_ text: String, zone: String) async throws -> UInt64? {
    LoopDriver.start()
    let outcome = try await ChildProcess.run(
      "/usr/bin/systemd-analyze", ["timestamp", "--", text], environment: ["TZ": zone, "LANG": "C.UTF-8"],
      timeout: .seconds(20))
    let output = String(decoding: outcome.output, as: UTF8.self)
    guard let line = output.split(separator: "\n").first(where: { $0.contains("UNIX seconds: @") }),
      let mark = line.firstIndex(of: "@")
    else { return nil }
    let parts = line[line.index(after: mark)...].split(separator: ".")
    guard let seconds = UInt64(parts[0]) else { return nil }
    let fraction = parts.count > 1 ? String(parts[1]) : ""
    return seconds * 1_000_000 + (UInt64(fraction + String(repeating: "0", count: 6 - fraction.count)) ?? 0)
  }

  nonisolated static let fixed = [
    "2012-09-22 16:34:22", "2012-09-22 16:34", "2012-09-22", "12-09-22 16:34:22", "12-09-22", "12-9-2 1:2",
    "2012-09-22 16:34:22.1", "2012-09-22 16:34:22.123456", "2012-09-22 16:34:22.1234565",
    "2012-09-22 16:34:22.", "2012-09-22 16:34:22.x", "2012-09-22T16:34:22", "Sat 2012-09-22",
    "Saturday 2012-09-22 11:12:13", "sat 2012-09-22 11:12", "Sun 2012-09-22", "Sat  2012-09-22", "2012-13-01",
    "2012-02-30", "Sep 22 16:34:22", "Sep 22 16:34:22.5", "Sep 22 16:34", "2012-09-22 16:34:22 UTC",
    "2012-09-22 16:34 utc", "2012-09-22 UTC", "2012-09-22 16:34:22 Nowhere/Land", "2012-09-22 Etc/../UTC",
    "@1395716396",
    "@1395716396.25", "@0", "@", "@-1", "@1.5min", "@1h 30s", "@1 2 3", "@1.", "@1.s", "@.5", "@+5",
    "@12.34.56",
    "@12.34s.56", "@1years", "@1M", "@1m", "@1μs", "@1µs", "@1 fortnight", "", " ", "nonsense", "1969-12-31",
    "9999-12-30", "10000-01-01", "now ", "2012-09-22 24:00", "2012-09-22 16:60", "16:34:22 x",
    "2012-03-25 02:30",
    "2012-10-28 02:30",
  ]

  @Test(arguments: fixed, ["UTC", "Europe/Berlin"])
  func absoluteTimesAreSystemds(_ text: String, zone: String) async throws {
    let expected = try await oracle(text, zone: zone)
    setenv("TZ", zone, 1)
    tzset()
    defer {
      unsetenv("TZ")
      tzset()
    }
    #expect(TimeExpression.parse(text, now: Self.now) == expected)
  }

  nonisolated static let zoned = [
    "2012-09-22 16:34:22 Europe/Berlin", "Sat 2012-09-22 Europe/Berlin", "2012-01-22 America/New_York",
    "2012-09-22 16:34:22.25 Asia/Kathmandu", "2012-01-22 16:34:22 CET", "2012-07-22 16:34:22 CET",
    "2012-07-22 16:34:22 CEST", "2012-10-28 02:30 CEST", "2012-10-28 02:30 CET", "2012-10-28 02:30 cest",
    "2012-01-22 16:34:22 CEST", "2012-01-22 16:34:22 EST", "2012-07-22 12:00 EST5EDT", "2012-07-22 12:00 EDT",
    "@5 Europe/Berlin", "+5min Europe/Berlin",
    "2012-03-25 02:30 Europe/Berlin",
    "Sun 2012-09-22 Europe/Berlin",
    "2012-09-22 16:34:22 europe/berlin", "2012-09-22 Etc/GMT+5",
  ]

  /// `systemd-analyze` of systemd 252 understands no zone by its name; the oracle is what `journalctl` selects.
  @Test(arguments: ["UTC", "Europe/Berlin", "America/New_York"])
  func aZoneOfTheDatabaseIsUnderstoodAsByJournalctl(_ zone: String) async throws {
    func parse(_ text: String) -> UInt64? {
      setenv("TZ", zone, 1)
      tzset()
      defer {
        unsetenv("TZ")
        tzset()
      }
      return TimeExpression.parse(text, now: Self.now)
    }
    let times = Set(Self.zoned.compactMap(parse).flatMap { [$0 - 1, $0, $0 + 1] }).sorted()
    try #require(times.count > 20)
    let fixture = JournalFixture()
    let entries = times.enumerated().map { index, time in
      "__REALTIME_TIMESTAMP=\(time)\n__MONOTONIC_TIMESTAMP=\(index + 1)\n_BOOT_ID=\(String(repeating: "ab", count: 16))\nMESSAGE=\(time)\n\n"
    }
    try await fixture.make(Array(entries.joined().utf8), name: "odd.journal")
    for text in Self.zoned {
      let (output, messages) = try await fixture.journalctl(
        ["-o", "cat", "-S", text], environment: ["TZ": zone])
      guard let time = parse(text) else {
        #expect(messages.contains("Failed to parse timestamp"), "\(text) in \(zone)")
        continue
      }
      let selected = String(decoding: output, as: UTF8.self).split(separator: "\n").first.map { String($0) }
      #expect(selected == String(time), "\(text) in \(zone)")
    }
  }

  @Test(arguments: [
    "now", "today", "yesterday", "tomorrow", "today UTC", "+5min", "-5days", "-2h 30s",
    "11min ago", "3 weeks ago", "1h left", "+1y 2months", "16:34:22", "16:34", "- 5s", "+0.5s",
    "-100000y", "5 ago", "ago", " ago", "left", "+infinity", "-infinity", "+5 UTC", "TODAY", "Now",
  ])
  func relativeTimesAreSystemds(_ text: String) async throws {
    let expected = try await oracle(text, zone: "UTC")
    setenv("TZ", "UTC", 1)
    tzset()
    let parsed = TimeExpression.parse(text, now: Self.now)
    guard let expected, let parsed else {
      #expect(parsed == expected)
      return
    }
    #expect(max(parsed, expected) - min(parsed, expected) < 30_000_000)
  }
}
