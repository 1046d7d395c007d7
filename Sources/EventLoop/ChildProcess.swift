import CSystemd
import Glibc

/// Child processes on the loop: posix_spawn(3), their end by pidfd_open(2), their output by pipes.
public enum ChildProcess {
  /// How a child ended and what it wrote.
  public nonisolated struct Outcome: Sendable {
    public enum End: Hashable, Sendable {
      case exited(status: Int32)
      case signalled(Int32)
    }

    public var end: End
    public var output: [UInt8]
    public var errorOutput: [UInt8]
    /// Output beyond the limit was read and dropped.
    public var isTruncated: Bool
    /// The child was killed because its time was up.
    public var hasTimedOut: Bool

    public var isSuccess: Bool { end == .exited(status: 0) }
  }

  /// Kernels before 5.3 have no pidfd; the child's end is then looked for at this interval.
  private static let pollInterval = Duration.milliseconds(50)

  /// Runs a program to its end.
  ///
  /// The program gets no standard input, none of our descriptors and no blocked signals.
  /// When the task is cancelled, or the time is up, it is killed.
  ///
  /// - Parameters:
  ///   - path: absolute; nothing is looked up and no shell is involved.
  ///   - environment: the whole environment of the child; nil hands on ours.
  ///   - outputLimitBytes: kept of each of the two outputs.
  /// - Throws: `SystemError` when the program cannot be started.
  public static func run(
    _ path: String, _ arguments: [String] = [], environment: [String: String]? = nil,
    outputLimitBytes: Int = 64 * 1024, timeout: Duration
  ) async throws(SystemError) -> Outcome {
    let output = try Capture(limit: outputLimitBytes)
    let errorOutput = try Capture(limit: outputLimitBytes)
    let process = try spawn(
      path, arguments, environment: environment, output: output, errorOutput: errorOutput)
    try output.begin()
    try errorOutput.begin()

    let exit = try Exit(process: process)
    var hasTimedOut = false
    let timer = EventLoop.shared.schedule(after: timeout, tolerance: .milliseconds(10)) {
      hasTimedOut = true
      exit.kill()
    }
    let end = await withTaskCancellationHandler {
      await exit.wait()
    } onCancel: {
      Task { @MainActor in exit.kill() }
    }
    timer.cancel()
    await output.drain()
    await errorOutput.drain()
    return Outcome(
      end: end, output: output.bytes, errorOutput: errorOutput.bytes,
      isTruncated: output.isTruncated || errorOutput.isTruncated, hasTimedOut: hasTimedOut)
  }

  private static func spawn(
    _ path: String, _ arguments: [String], environment: [String: String]?, output: Capture,
    errorOutput: Capture
  ) throws(SystemError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, output.writeEnd, 1)
    posix_spawn_file_actions_adddup2(&actions, errorOutput.writeEnd, 2)

    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    let variables = environment.map { $0.map { "\($0.key)=\($0.value)" } }
    var process = pid_t()
    let code = withCStrings([path] + arguments) { argumentVector in
      if let variables {
        withCStrings(variables) { posix_spawn(&process, path, &actions, &attributes, argumentVector, $0) }
      } else {
        posix_spawn(&process, path, &actions, &attributes, argumentVector, csystemd_environment())
      }
    }
    guard code == 0 else { throw SystemError(code: code, call: "posix_spawn") }
    return process
  }

  /// A null-terminated vector of C strings for the time of the call.
  private static func withCStrings<T>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> T
  ) -> T {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { preconditionFailure("the vector has an element") }
      return body(base)
    }
  }

  /// Waits for the end of one child and reaps it.
  private final class Exit {
    private let process: pid_t
    private let descriptor: Int32
    private var watch: EventLoop.Watch?
    private var poll: LoopTimer?
    private var end: Outcome.End?
    private var continuation: CheckedContinuation<Outcome.End, Never>?

    init(process: pid_t) throws(SystemError) {
      self.process = process
      descriptor = csystemd_pidfd_open(process)
      if descriptor >= 0 {
        watch = try EventLoop.shared.watch(descriptor, .read) { [self] _ in reap() }
      } else {
        pollLater()
      }
    }

    private func pollLater() {
      poll = EventLoop.shared.schedule(after: pollInterval) { [self] in
        reap()
        if end == nil { pollLater() }
      }
    }

    private func reap() {
      var status: Int32 = 0
      guard end == nil, waitpid(process, &status, WNOHANG) == process else { return }
      let signal = csystemd_termination_signal(status)
      end = signal != 0 ? .signalled(signal) : .exited(status: csystemd_exit_status(status))
      watch?.cancel()
      watch = nil
      if descriptor >= 0 { close(descriptor) }
      if let end { continuation.take()?.resume(returning: end) }
    }

    func wait() async -> Outcome.End {
      if let end { return end }
      return await withCheckedContinuation { continuation = $0 }
    }

    /// The process id is ours until the child is reaped, which has not happened yet.
    func kill() {
      if end == nil { Glibc.kill(process, SIGKILL) }
    }
  }

  /// The reading end of a pipe, with a bound on what is kept.
  private final class Capture {
    /// A grandchild may hold the pipe open for ever; we do not wait for it.
    private static let drainTimeout = Duration.seconds(1)

    private(set) var bytes: [UInt8] = []
    private(set) var isTruncated = false
    private let limit: Int
    private let readEnd: Int32
    fileprivate private(set) var writeEnd: Int32
    private var watch: EventLoop.Watch?
    private var isAtEnd = false
    private var continuation: CheckedContinuation<Void, Never>?

    init(limit: Int) throws(SystemError) {
      self.limit = limit
      var ends: [Int32] = [-1, -1]
      guard csystemd_pipe(&ends) == 0 else { throw .last("pipe2") }
      readEnd = ends[0]
      writeEnd = ends[1]
    }

    isolated deinit {
      watch?.cancel()
      close(readEnd)
      if writeEnd >= 0 { close(writeEnd) }
    }

    /// Call it when the child has its copy of the writing end.
    func begin() throws(SystemError) {
      close(writeEnd)
      writeEnd = -1
      _ = fcntl(readEnd, F_SETFL, O_NONBLOCK)
      watch = try EventLoop.shared.watch(readEnd, .read) { [unowned self] _ in take() }
    }

    private func take() {
      let count = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
        let count = read(readEnd, buffer.baseAddress, buffer.count)
        if count > 0 {
          let room = limit - bytes.count
          bytes.append(contentsOf: buffer.prefix(min(count, room)))
          if count > room { isTruncated = true }
        }
        return count
      }
      if count == 0 || count < 0 && errno != EAGAIN && errno != EINTR { finish() }
    }

    private func finish() {
      isAtEnd = true
      watch?.cancel()
      watch = nil
      continuation.take()?.resume()
    }

    /// Waits until everything that the child wrote has been read.
    func drain() async {
      guard !isAtEnd else { return }
      let timer = EventLoop.shared.schedule(after: Self.drainTimeout) { [self] in finish() }
      await withCheckedContinuation { continuation = $0 }
      timer.cancel()
    }
  }
}
