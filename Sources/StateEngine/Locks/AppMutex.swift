import EventLoop

/// Who of the agent's own operations may touch an app's locks: one at a time, first come first
/// served.
final class AppMutex {
  private final class Waiter {
    var continuation: CheckedContinuation<Outcome, Never>?
    var timer: LoopTimer?
    var isCancelled = false
  }

  enum Outcome { case entered, timedOut, cancelled }

  private(set) var isHeld = false
  private var waiters: [Waiter] = []

  var isIdle: Bool { !isHeld && waiters.isEmpty }

  /// - Parameter timeout: nil waits without limit.
  func enter(timeout: Duration?) async -> Outcome {
    if Task.isCancelled { return .cancelled }
    if !isHeld {
      isHeld = true
      return .entered
    }
    if let timeout, timeout <= .zero { return .timedOut }
    let waiter = Waiter()
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard !waiter.isCancelled else { return continuation.resume(returning: .cancelled) }
        waiter.continuation = continuation
        waiters.append(waiter)
        if let timeout {
          waiter.timer = EventLoop.shared.schedule(after: timeout) { self.leaveQueue(waiter, .timedOut) }
        }
      }
    } onCancel: {
      Task { @MainActor in
        waiter.isCancelled = true
        self.leaveQueue(waiter, .cancelled)
      }
    }
  }

  /// Hands over to the waiter that came first.
  func leave() {
    guard !waiters.isEmpty else {
      isHeld = false
      return
    }
    resume(waiters.removeFirst(), .entered)
  }

  private func leaveQueue(_ waiter: Waiter, _ outcome: Outcome) {
    guard let index = waiters.firstIndex(where: { $0 === waiter }) else { return }
    waiters.remove(at: index)
    resume(waiter, outcome)
  }

  private func resume(_ waiter: Waiter, _ outcome: Outcome) {
    waiter.timer?.cancel()
    waiter.timer = nil
    waiter.continuation.take()?.resume(returning: outcome)
  }
}
