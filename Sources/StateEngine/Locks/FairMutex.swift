import EventLoop

/// Who of the agent's own operations may touch a thing, such as an app's locks: one at a time, first come first
/// served.
public final class FairMutex {
  private final class Waiter {
    var continuation: CheckedContinuation<Outcome, Never>?
    var timer: LoopTimer?
    var isCancelled = false
  }

  public enum Outcome { case entered, timedOut, cancelled }

  public private(set) var isHeld = false
  private var waiters: [Waiter] = []

  public init() {}

  var isIdle: Bool { !isHeld && waiters.isEmpty }

  /// `leave` follows when, and only when, it was entered.
  ///
  /// - Parameter timeout: nil waits without limit.
  public func enter(timeout: Duration?) async -> Outcome {
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
  public func leave() {
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
