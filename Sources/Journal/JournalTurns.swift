import EventLoop

/// Shares the turns of the loop among the streams: one of them reads in each turn, first come, first
/// served. However many there are, other requests wait for no more than one piece.
final class JournalTurns {
  static let shared = JournalTurns()

  private var waiting: [CheckedContinuation<Void, Never>] = []
  /// The turn in which a stream read last.
  private var last = MonotonicTime(nanoseconds: 0)

  /// Returns at once when no stream reads in this turn or waits to.
  func next() async {
    if last == EventLoop.shared.now || !waiting.isEmpty {
      await withCheckedContinuation { continuation in
        waiting.append(continuation)
        if waiting.count == 1 { schedule() }
      }
    }
    last = EventLoop.shared.now
  }

  private func schedule() {
    EventLoop.shared.enqueue { [self] in
      waiting.removeFirst().resume()
      if !waiting.isEmpty { schedule() }
    }
  }
}
