import CSystemd
import Glibc

/// Brings files to the disk while the loop goes on: the kernel does what fsync(2) does on a thread of its own
/// and says so on a descriptor (io_submit(2) with IOCB_CMD_FSYNC, since Linux 4.18).
///
/// Where it does not, fsync(2) is called within a turn that then ends.
public final class FileFlush {
  public static let shared = FileFlush()

  /// At the same time; more are made within their turn. The kernel keeps a page for these.
  private static let limit: UInt32 = 8

  private struct Queue {
    let context: UInt
    let counter: Int32
    let watch: EventLoop.Watch
  }

  private enum State {
    case unused
    case ready(Queue)
    /// The kernel, or a filter of system calls, does not have it.
    case unavailable
  }

  private var state: State
  private var waiting: [UInt64: CheckedContinuation<Int32, Never>] = [:]
  private var nextNumber: UInt64 = 1

  /// - Parameter isInBackground: false calls fsync(2), as where the kernel offers nothing else.
  init(isInBackground: Bool = true) { state = isInBackground ? .unused : .unavailable }

  /// Returns when all that was written to the file, or changed in the directory, is on the disk.
  public func flush(_ descriptor: Int32) async throws(SystemError) {
    let code: Int32
    if let queue = queue(), let number = submit(descriptor, to: queue) {
      code = await withCheckedContinuation { waiting[number] = $0 }
    } else {
      code = uninterrupted { fsync(descriptor) } == 0 ? 0 : errno
      // A timer ends the turn; what yields may go on within it.
      try? await Task.sleep(for: .milliseconds(1))
    }
    guard code == 0 else { throw SystemError(code: code, call: "fsync") }
  }

  private func queue() -> Queue? {
    switch state {
    case .ready(let queue): return queue
    case .unavailable: return nil
    case .unused: break
    }
    state = .unavailable
    let counter = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
    guard counter >= 0 else { return nil }
    guard let watch = try? EventLoop.shared.watch(counter, .read, handler: { [unowned self] _ in take() })
    else {
      close(counter)
      return nil
    }
    var context: UInt = 0
    guard csystemd_flush_queue(Self.limit, &context) == 0 else {
      watch.cancel()
      close(counter)
      return nil
    }
    let queue = Queue(context: context, counter: counter, watch: watch)
    state = .ready(queue)
    return queue
  }

  private func submit(_ descriptor: Int32, to queue: Queue) -> UInt64? {
    let number = nextNumber
    guard csystemd_flush(queue.context, descriptor, queue.counter, number) == 0 else { return nil }
    nextNumber &+= 1
    return number
  }

  private func take() {
    guard case .ready(let queue) = state else { return }
    var count: UInt64 = 0
    _ = read(queue.counter, &count, MemoryLayout<UInt64>.size)
    var number: UInt64 = 0
    var result: Int64 = 0
    while csystemd_flush_done(queue.context, &number, &result) > 0 {
      waiting.removeValue(forKey: number)?.resume(returning: Int32(clamping: -result))
    }
  }
}
