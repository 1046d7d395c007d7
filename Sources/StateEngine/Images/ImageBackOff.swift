import EventLoop

/// Failed pulls per image name, and when each may be tried again (state-engine 0, 6.4).
public nonisolated struct ImageBackOff: Sendable {
  private struct Entry {
    var failures: Int
    var retryAt: MonotonicTime
  }

  /// No image waits longer than this.
  public var pollInterval: Duration
  private var entries: [String: Entry] = [:]

  public init(pollInterval: Duration = .milliseconds(900_000)) { self.pollInterval = pollInterval }

  /// `min(2^k * 500 ms, pollInterval)` after the k-th failure, the first being k = 1.
  public static func delay(failures: Int, pollInterval: Duration) -> Duration {
    min(.milliseconds(500) * (1 << min(max(failures, 0), 30)), pollInterval)
  }

  /// Counts a failure. Up to a tenth is added to the delay, so that images that failed together
  /// are not tried together for ever.
  public mutating func fail(
    _ name: String, at now: MonotonicTime, using generator: inout some RandomNumberGenerator
  ) {
    let failures = (entries[name]?.failures ?? 0) + 1
    let delay = ImageBackOff.delay(failures: failures, pollInterval: pollInterval)
    let jitter = delay * Double.random(in: 0...0.1, using: &generator)
    if entries.count >= Self.limit, entries[name] == nil {
      let oldest = entries.min { $0.value.retryAt < $1.value.retryAt }
      if let oldest { entries[oldest.key] = nil }
    }
    entries[name] = Entry(failures: failures, retryAt: now + delay + jitter)
  }

  /// Forgets the failures of an image that is there now.
  public mutating func succeed(_ name: String) { entries[name] = nil }

  /// Names that are remembered; a target has fewer.
  private static let limit = 512

  /// Keeps only images that are still wanted, so that the table does not grow.
  public mutating func retain(_ names: Set<String>) { entries = entries.filter { names.contains($0.key) } }

  public func failures(of name: String) -> Int { entries[name]?.failures ?? 0 }

  /// When an image that failed may be tried again.
  public func retryTime(of name: String) -> MonotonicTime? { entries[name]?.retryAt }

  /// Images that must not be tried yet.
  public func waiting(at now: MonotonicTime) -> Set<String> {
    Set(entries.filter { $0.value.retryAt > now }.keys)
  }

  /// When the first of the waiting images may be tried.
  public func nextRetry(after now: MonotonicTime) -> MonotonicTime? {
    entries.values.map(\.retryAt).filter { $0 > now }.min()
  }
}
