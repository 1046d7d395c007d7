import CSystemd
import Glibc

/// A point on the monotonic clock (`CLOCK_MONOTONIC`), which no change of the wall clock moves.
public nonisolated struct MonotonicTime: Hashable, Comparable, Sendable {
  /// Since an arbitrary start, usually the boot.
  public let nanoseconds: UInt64

  public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// Reads the clock.
  public static func read() -> MonotonicTime {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
  }

  public static func < (a: MonotonicTime, b: MonotonicTime) -> Bool { a.nanoseconds < b.nanoseconds }

  public static func - (a: MonotonicTime, b: MonotonicTime) -> Duration {
    a.nanoseconds >= b.nanoseconds
      ? .nanoseconds(Int64(clamping: a.nanoseconds - b.nanoseconds))
      : .zero - .nanoseconds(Int64(clamping: b.nanoseconds - a.nanoseconds))
  }

  /// A negative duration counts as none; the end of time is not passed.
  public static func + (a: MonotonicTime, b: Duration) -> MonotonicTime {
    let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.clampedNanoseconds)
    return MonotonicTime(nanoseconds: overflow ? .max : sum)
  }
}

nonisolated extension Duration {
  /// Whole nanoseconds: zero for a negative duration, the largest number for one that does not fit.
  public var clampedNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return .max }
    let (sum, carry) = product.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
    return carry ? .max : sum
  }

  /// Whole milliseconds, rounded towards zero.
  public var milliseconds: Int {
    Int(clamping: components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000)
  }
}
