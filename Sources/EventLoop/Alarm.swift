/// A wait with a time limit that others can end. One task waits at a time.
public final class Alarm {
  private var continuation: CheckedContinuation<Void, Never>?
  private var timer: LoopTimer?
  private var isRung = false

  public init() {}

  /// Returns after `delay`, or when it is rung, or at once when it was rung since the last wait.
  /// nil waits until it is rung.
  public func wait(_ delay: Duration?, tolerance: Duration = .zero) async {
    if isRung || Task.isCancelled {
      isRung = false
      return
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled { return continuation.resume() }
        self.continuation = continuation
        if let delay {
          timer = EventLoop.shared.schedule(after: delay, tolerance: tolerance) { [weak self] in self?.end() }
        }
      }
    } onCancel: {
      Task { @MainActor in self.end() }
    }
    isRung = false
  }

  /// Forgets a ring that nobody waited for.
  public func reset() { isRung = false }

  public func ring() {
    isRung = true
    end()
  }

  private func end() {
    timer?.cancel()
    timer = nil
    let waiting = continuation
    continuation = nil
    waiting?.resume()
  }
}
