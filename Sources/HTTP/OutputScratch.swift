import CSystemd
import EventLoop
import Glibc

/// The buffer in which the answers to one batch of requests are put together, so that they
/// leave in one call. It belongs to one connection at a time, which empties it before the next
/// connection runs.
final class OutputScratch {
  static let capacity = 64 * 1024

  private let ownMemory = RawMemory<UInt8>(capacity: OutputScratch.capacity)
  private(set) var count = 0
  var owner: Connection?

  private let keepAliveFields: [UInt8]
  private let closeFields = Array("Connection: close\r\n\r\n".utf8)
  /// `Date: …` with its line end; the text changes once a second.
  private let date = RawMemory<UInt8>(capacity: OutputScratch.dateBytes)
  private var dateSecond: time_t = -1
  private static let dateBytes = 37

  init(keepAlive: Duration) {
    let seconds = keepAlive.components.seconds
    keepAliveFields = Array("Connection: keep-alive\r\nKeep-Alive: timeout=\(seconds)\r\n\r\n".utf8)
  }

  var memory: UnsafeMutablePointer<UInt8> { ownMemory.base }

  var room: Int { Self.capacity - count }
  /// What `putConnectionFields` may add.
  static let connectionBytes = 128

  func reset() { count = 0 }

  @inline(__always)
  func put(_ bytes: [UInt8]) {
    bytes.withUnsafeBufferPointer { put($0) }
  }

  /// There must be room.
  @inline(__always)
  func put(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard let source = bytes.baseAddress else { return }
    precondition(bytes.count <= room)
    (memory + count).update(from: source, count: bytes.count)
    count += bytes.count
  }

  /// The fields that end a head: date and what becomes of the connection.
  func putConnectionFields(keepsAlive: Bool) {
    refreshDate()
    put(UnsafeBufferPointer(start: date.base, count: Self.dateBytes))
    put(keepsAlive ? keepAliveFields : closeFields)
  }

  private func refreshDate() {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    guard now.tv_sec != dateSecond else { return }
    dateSecond = now.tv_sec
    HTTPDate.write(now.tv_sec, to: date.base)
  }
}

/// The date format of HTTP (RFC 9110 section 5.6.7).
nonisolated enum HTTPDate {
  /// Writes 37 bytes: `Date: Sun, 06 Nov 1994 08:49:37 GMT` and the line's end.
  static func write(_ seconds: time_t, to output: UnsafeMutablePointer<UInt8>) {
    var seconds = seconds
    var parts = tm()
    gmtime_r(&seconds, &parts)
    let days: StaticString = "SunMonTueWedThuFriSat"
    let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"
    let template: StaticString = "Date: ddd, 00 mmm 0000 00:00:00 GMT\r\n"
    output.update(from: template.utf8Start, count: template.utf8CodeUnitCount)
    (output + 6).update(from: days.utf8Start + 3 * Int(parts.tm_wday), count: 3)
    (output + 14).update(from: months.utf8Start + 3 * Int(parts.tm_mon), count: 3)
    let year = Int(parts.tm_year) + 1900
    digits(Int(parts.tm_mday), output + 11)
    digits(year / 100, output + 18)
    digits(year % 100, output + 20)
    digits(Int(parts.tm_hour), output + 23)
    digits(Int(parts.tm_min), output + 26)
    digits(Int(parts.tm_sec), output + 29)
  }

  private static func digits(_ value: Int, _ output: UnsafeMutablePointer<UInt8>) {
    output[0] = UInt8(truncatingIfNeeded: 0x30 + value / 10)
    output[1] = UInt8(truncatingIfNeeded: 0x30 + value % 10)
  }
}
