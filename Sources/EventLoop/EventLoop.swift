import CSystemd
import Glibc
import DequeModule
import HeapModule

/// The one loop of the program: epoll, timers and Swift's jobs on one thread.
///
/// A *turn* runs, in this order: timers that are due, jobs of tasks, actions put off with
/// `enqueue`, the before-sleep hooks, and then `epoll_wait`, whose events are handed to the
/// handlers of their watches. The loop waits only when none of the former is left.
///
/// Invariants:
///  - Descriptors are level-triggered. A handler is called once a turn and takes at most a
///    buffer's worth; what is left makes the descriptor ready again in the next turn, so that
///    no source starves the others. Jobs are bounded per turn for the same reason.
///  - An event carries descriptor *and* registration number. A descriptor that was closed and
///    opened again within one turn has another number, so a late event never reaches it.
///  - A change of interest is noted, not executed: the kernel is told before the loop waits,
///    and only if it still believes something else. Write interest that is set and dropped
///    within a turn costs no system call.
///  - A cancelled timer never wakes the process: it leaves the top of the heap before the
///    time to wait is computed.
///  - The loop's own descriptor is pollable, so that tests can drive the same code from a
///    foreign loop (`turn(mayWait: false)`).
public final class EventLoop {
  public static let shared = EventLoop()

  /// Events taken from the kernel at once; more come in the next turn.
  private static let eventsPerTurn = 64
  /// Jobs and actions run before the descriptors are looked at again.
  private static let jobsPerTurn = 512

  /// epoll(7) descriptor: readable when some watch is ready.
  public let descriptor: Int32
  /// Read from the clock once or twice a turn; precise to the turn.
  public internal(set) var now = MonotonicTime.read()
  /// Times the process woke up from waiting since it started.
  public private(set) var wakeUps: UInt64 = 0
  private var longestTurn = Duration.zero
  private var turnStart = MonotonicTime.read()

  let executor = LoopExecutor.shared
  var slots: [Slot] = []
  var nextRegistration: UInt32 = 1
  var changedWatches: [Watch] = []
  var timers = Heap<TimerEntry>()
  var staleTimers = 0
  var nextTimerSequence: UInt64 = 0

  private let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: EventLoop.eventsPerTurn)
  private var actions = Deque<() -> Void>()
  private var hooks: [Hook] = []
  private var isStopped = false

  private init() {
    descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard descriptor >= 0 else {
      // Without epoll there is no program; the message is all that can be done.
      fatalError("epoll_create1: \(SystemError.last("epoll_create1").reason)")
    }
    executor.attach()
    let wakeUp = executor.wakeUpDescriptor
    _ = try? watch(wakeUp, .read) { [executor] _ in executor.takeForeignJobs() }
  }

  // MARK: Running

  /// Runs turns until `stop()`.
  public func run() {
    isStopped = false
    while !isStopped { turn() }
  }

  /// Makes `run()` return at the end of this turn.
  public func stop() { isStopped = true }

  /// One turn. With `mayWait` false it looks at the descriptors without waiting.
  public func turn(mayWait: Bool = true) {
    now = .read()
    fireTimers()
    executor.runJobs(atMost: Self.jobsPerTurn)
    runActions()
    for hook in hooks where hook.isActive { hook.action() }
    flushInterests()

    let hasWork = executor.hasJobs || !actions.isEmpty || isStopped || !mayWait
    let timeout = hasWork ? 0 : millisecondsToWait()
    let turn = MonotonicTime.read() - turnStart
    if turn > longestTurn { longestTurn = turn }
    let count = epoll_wait(descriptor, events, Int32(Self.eventsPerTurn), timeout)
    if timeout != 0 { wakeUps &+= 1 }
    turnStart = .read()
    guard count > 0 else { return }
    now = turnStart
    for position in 0..<Int(count) { dispatch(events + position) }
  }

  /// The longest time between two looks at the descriptors since the last call, waiting not
  /// counted: how long a client may have waited for others.
  public func takeLongestTurn() -> Duration {
    defer { longestTurn = .zero }
    return longestTurn
  }

  /// Runs `action` in the next turn, after timers and jobs.
  public func enqueue(_ action: @escaping () -> Void) { actions.append(action) }

  private func runActions() {
    for _ in 0..<min(actions.count, Self.jobsPerTurn) {
      guard let action = actions.popFirst() else { break }
      action()
    }
  }

  /// Wakes the loop from a foreign thread.
  public nonisolated func wake() { LoopExecutor.shared.wake() }

  // MARK: Before sleep

  /// An action that runs each time the loop is about to look at its descriptors: the place
  /// where writers flush what gathered during the turn.
  public final class Hook {
    let action: () -> Void
    fileprivate(set) var isActive = true
    private weak var loop: EventLoop?

    fileprivate init(loop: EventLoop, action: @escaping () -> Void) {
      self.loop = loop
      self.action = action
    }

    public func cancel() {
      isActive = false
      loop?.hooks.removeAll { $0 === self }
    }
  }

  public func beforeSleep(_ action: @escaping () -> Void) -> Hook {
    let hook = Hook(loop: self, action: action)
    hooks.append(hook)
    return hook
  }
}
