import EventLoop

/// Growing delays between tries of something that fails (state-engine 0).
nonisolated struct RetryDelay: Sendable {
  private(set) var failures = 0
  private(set) var retryAt: MonotonicTime?
  private var failedAt: MonotonicTime?
  /// No delay is longer.
  var limit: Duration

  init(limit: Duration) { self.limit = limit }

  /// `min(2^f * 500 ms, limit)` after the f-th failure in a row.
  mutating func fail(at now: MonotonicTime) -> Duration {
    failures += 1
    let delay = Self.delay(failures, limit)
    retryAt = now + delay
    failedAt = now
    return delay
  }

  /// What was in the way is gone: no need to wait on, but for a pause behind the last failure. The next
  /// failure is delayed as if nothing had happened.
  mutating func hasten(at now: MonotonicTime, pause: Duration) {
    guard let retryAt, let failedAt else { return }
    self.retryAt = min(retryAt, max(now, failedAt + pause))
  }

  mutating func succeed() {
    failures = 0
    retryAt = nil
  }

  func isWaiting(at now: MonotonicTime) -> Bool { retryAt.map { $0 > now } ?? false }

  /// The delay that is under way is longer than others wait for an app's locks.
  func isLong(at now: MonotonicTime) -> Bool {
    isWaiting(at: now) && Self.delay(failures, limit) > UpdateLocks.actionTimeout
  }

  private static func delay(_ failures: Int, _ limit: Duration) -> Duration {
    min(.milliseconds(500) * (1 << min(failures, 30)), limit)
  }
}
