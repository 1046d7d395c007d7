/// One at a time, first come first served. Nobody is turned away, a cancelled task neither.
public final class TurnQueue {
  private var isTaken = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  public init() {}

  /// Nobody is at it, nor waits.
  public var isIdle: Bool { !isTaken }

  /// `leave` follows.
  public func enter() async {
    guard isTaken else {
      isTaken = true
      return
    }
    await withCheckedContinuation { waiting.append($0) }
  }

  /// Hands over to who came first.
  public func leave() {
    if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
  }
}
