// The only file that uses the concurrency runtime's experimental interfaces
// (`ExperimentalCustomExecutors`, `ExperimentalScheduling` of the 6.3 toolchain): the event
// loop takes the place of the main executor and of the default executor, so that no task of
// the program ever runs on another thread.

@_spi(ExperimentalCustomExecutors) @_spi(ExperimentalScheduling) import _Concurrency
import CSystemd
import Glibc
import DequeModule

/// The queue of jobs that are ready to run on the loop.
///
/// Jobs arrive on the loop's thread, with rare exceptions (a library's own thread), which go
/// through a mutex and wake the loop. The mutex is the reason for `@unchecked Sendable`.
nonisolated final class LoopExecutor: @unchecked Sendable {
  public static let shared = LoopExecutor()

  let wakeUpDescriptor: Int32
  private var thread = pthread_self()
  private var jobs = Deque<UnownedJob>()
  private var foreignJobs = Deque<UnownedJob>()
  private var foreignLock = pthread_mutex_t()

  private init() {
    wakeUpDescriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
    pthread_mutex_init(&foreignLock, nil)
  }

  /// Makes the calling thread the loop's.
  func attach() { thread = pthread_self() }

  public var isOnLoopThread: Bool { pthread_equal(thread, pthread_self()) != 0 }

  var hasJobs: Bool { !jobs.isEmpty }

  func wake() {
    var one: UInt64 = 1
    _ = write(wakeUpDescriptor, &one, MemoryLayout<UInt64>.size)
  }

  fileprivate func add(_ job: UnownedJob) {
    if isOnLoopThread {
      jobs.append(job)
    } else {
      pthread_mutex_lock(&foreignLock)
      foreignJobs.append(job)
      pthread_mutex_unlock(&foreignLock)
      wake()
    }
  }

  /// Empties the wake-up descriptor and takes over the jobs of foreign threads.
  func takeForeignJobs() {
    var count: UInt64 = 0
    _ = read(wakeUpDescriptor, &count, MemoryLayout<UInt64>.size)
    pthread_mutex_lock(&foreignLock)
    swap(&foreignJobs, &arrivals)
    pthread_mutex_unlock(&foreignLock)
    while let job = arrivals.popFirst() { jobs.append(job) }
  }
  private var arrivals = Deque<UnownedJob>()

  func runJobs(atMost limit: Int) {
    for _ in 0..<limit {
      guard let job = jobs.popFirst() else { return }
      job.runSynchronously(on: asUnownedSerialExecutor())
    }
  }
}

nonisolated extension LoopExecutor: MainExecutor {
  func enqueue(_ job: consuming ExecutorJob) { add(UnownedJob(job)) }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

  var isMainExecutor: Bool { true }

  func checkIsolated() {
    precondition(isOnLoopThread, "main-actor code outside the loop's thread")
  }

  func isIsolatingCurrentContext() -> Bool? { isOnLoopThread }

  func run() throws {
    MainActor.assumeIsolated { EventLoop.shared.run() }
  }

  func stop() {
    MainActor.assumeIsolated { EventLoop.shared.stop() }
  }
}

nonisolated extension LoopExecutor: SchedulingExecutor {
  func enqueue<C: Clock>(
    _ job: consuming ExecutorJob, after delay: C.Duration, tolerance: C.Duration?, clock: C
  ) {
    let job = UnownedJob(job)
    let delay = (delay as? Duration) ?? .zero
    let tolerance = (tolerance as? Duration) ?? .zero
    MainActor.assumeIsolated {
      _ = EventLoop.shared.schedule(after: max(delay, .zero), tolerance: max(tolerance, .zero)) {
        self.add(job)
      }
    }
  }

  func enqueue<C: Clock>(
    _ job: consuming ExecutorJob, at instant: C.Instant, tolerance: C.Duration?, clock: C
  ) {
    enqueue(job, after: clock.now.duration(to: instant), tolerance: tolerance, clock: clock)
  }
}

/// The default executor: forwards every job to the loop.
private nonisolated final class ForwardingTaskExecutor: TaskExecutor, SchedulingExecutor {
  func enqueue(_ job: consuming ExecutorJob) { LoopExecutor.shared.enqueue(job) }

  func enqueue<C: Clock>(
    _ job: consuming ExecutorJob, after delay: C.Duration, tolerance: C.Duration?, clock: C
  ) {
    LoopExecutor.shared.enqueue(job, after: delay, tolerance: tolerance, clock: clock)
  }

  func enqueue<C: Clock>(
    _ job: consuming ExecutorJob, at instant: C.Instant, tolerance: C.Duration?, clock: C
  ) {
    LoopExecutor.shared.enqueue(job, at: instant, tolerance: tolerance, clock: clock)
  }
}

private nonisolated struct LoopExecutorFactory: ExecutorFactory {
  static var mainExecutor: any MainExecutor { LoopExecutor.shared }
  static let defaultExecutor: any TaskExecutor = ForwardingTaskExecutor()
}

extension EventLoop {
  /// Makes the loop Swift's main and default executor, starts `body` as the first task, runs
  /// the loop, and ends the process with the status that `body` returns.
  ///
  /// Call it from the program's synchronous entry point, before anything asynchronous.
  public nonisolated static func main(_ body: @escaping @MainActor @Sendable () async -> Int32) -> Never {
    _createExecutors(factory: LoopExecutorFactory.self)
    _ = LoopExecutor.shared.isOnLoopThread
    Task { @MainActor in
      let status = await body()
      exit(status)
    }
    MainActor.assumeIsolated { EventLoop.shared.run() }
    exit(EXIT_SUCCESS)
  }
}
