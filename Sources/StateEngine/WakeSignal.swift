/// Wakes one waiting task; signals that come while it is busy count as one.
final class WakeSignal {
  private var isSet = false
  private var continuation: CheckedContinuation<Void, Never>?

  func set() {
    if let continuation = continuation.take() {
      continuation.resume()
    } else {
      isSet = true
    }
  }

  /// Returns at once when the signal was set since the last wait.
  func wait() async {
    guard !isSet else {
      isSet = false
      return
    }
    await withCheckedContinuation { continuation = $0 }
  }
}
