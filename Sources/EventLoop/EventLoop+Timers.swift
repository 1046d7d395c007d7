import CSystemd
import Glibc
import HeapModule

extension EventLoop {
  /// Runs `action` once, not before `delay` has passed and not later than `tolerance` after
  /// that, if the loop is free. Timers whose windows overlap share a wake-up.
  public func schedule(
    after delay: Duration, tolerance: Duration = .zero, _ action: @escaping () -> Void
  ) -> LoopTimer {
    let timer = LoopTimer(loop: self, tolerance: tolerance, action: action)
    timer.restart(after: delay)
    return timer
  }

  /// Suspends the task; a cancelled task is resumed at once and its timer leaves the loop.
  public func sleep(for delay: Duration, tolerance: Duration = .zero) async throws(CancellationError) {
    let sleeper = Sleeper()
    let completed = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        sleeper.begin(continuation, loop: self, delay: delay, tolerance: tolerance)
      }
    } onCancel: {
      if LoopExecutor.shared.isOnLoopThread {
        MainActor.assumeIsolated { sleeper.cancel() }
      } else {
        Task { @MainActor in sleeper.cancel() }
      }
    }
    if !completed { throw CancellationError() }
  }

  /// Entries of the heap, cancelled ones that have not left it included.
  public var scheduledTimerCount: Int { timers.count }

  func insert(_ entry: TimerEntry) { timers.insert(entry) }

  func fireTimers() {
    while let entry = timers.min {
      if entry.isStale {
        timers.removeMin()
        staleTimers -= 1
        continue
      }
      guard entry.earliest <= now else { return }
      timers.removeMin()
      entry.timer.fire()
    }
  }

  /// Until the earliest end of a timer's window; -1 without timers. Rounded up, so that a
  /// timer is never found not yet due.
  func millisecondsToWait() -> Int32 {
    while let entry = timers.min, entry.isStale {
      timers.removeMin()
      staleTimers -= 1
    }
    guard let entry = timers.min else { return -1 }
    let time = MonotonicTime.read()
    guard entry.latest > time else { return 0 }
    return Int32(clamping: (entry.latest.nanoseconds - time.nanoseconds + 999_999) / 1_000_000)
  }

  /// Cancelled entries stay in the heap until they reach its top; when they are the majority
  /// the heap is built anew.
  func noteStaleTimer() {
    staleTimers += 1
    guard staleTimers > 64, staleTimers > timers.count / 2 else { return }
    timers = Heap(timers.unordered.filter { !$0.isStale })
    staleTimers = 0
  }
}

struct TimerEntry {
  let earliest: MonotonicTime
  let latest: MonotonicTime
  let sequence: UInt64
  let timer: LoopTimer

  var isStale: Bool { timer.sequence != sequence }
}

extension TimerEntry: Comparable {
  static func == (a: TimerEntry, b: TimerEntry) -> Bool { a.sequence == b.sequence }

  /// By the end of the window, then in the order of scheduling.
  static func < (a: TimerEntry, b: TimerEntry) -> Bool {
    a.latest != b.latest ? a.latest < b.latest : a.sequence < b.sequence
  }
}

/// A one-shot timer. It keeps itself alive while it is scheduled.
public final class LoopTimer {
  private let action: () -> Void
  private let tolerance: Duration
  private unowned let loop: EventLoop
  /// Of the entry in the heap that counts; nil when not scheduled.
  fileprivate(set) var sequence: UInt64?

  init(loop: EventLoop, tolerance: Duration, action: @escaping () -> Void) {
    self.loop = loop
    self.tolerance = tolerance
    self.action = action
  }

  public var isScheduled: Bool { sequence != nil }

  /// Schedules the timer anew, whether it was scheduled or not.
  public func restart(after delay: Duration) {
    cancel()
    let earliest = MonotonicTime.read() + delay
    loop.nextTimerSequence += 1
    sequence = loop.nextTimerSequence
    loop.insert(
      TimerEntry(
        earliest: earliest, latest: earliest + tolerance, sequence: loop.nextTimerSequence, timer: self))
  }

  public func cancel() {
    guard sequence != nil else { return }
    sequence = nil
    loop.noteStaleTimer()
  }

  fileprivate func fire() {
    sequence = nil
    action()
  }
}

/// The one continuation of a sleeping task, resumed by the timer or by cancellation,
/// whichever comes first.
private final class Sleeper {
  private var continuation: CheckedContinuation<Bool, Never>?
  private var timer: LoopTimer?
  private var isCancelled = false

  func begin(
    _ continuation: CheckedContinuation<Bool, Never>, loop: EventLoop, delay: Duration, tolerance: Duration
  ) {
    guard !isCancelled else { return continuation.resume(returning: false) }
    self.continuation = continuation
    timer = loop.schedule(after: delay, tolerance: tolerance) { self.finish(completed: true) }
  }

  func cancel() {
    isCancelled = true
    timer?.cancel()
    finish(completed: false)
  }

  private func finish(completed: Bool) {
    timer = nil
    continuation.take()?.resume(returning: completed)
  }
}
