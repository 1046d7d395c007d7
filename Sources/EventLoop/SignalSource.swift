import CSystemd
import Glibc

/// Signals as events of the loop, by signalfd(2).
///
/// The signals are blocked for the process until `cancel()`, and have their default effect again
/// after it; children started by `ChildProcess` do not inherit the block.
public final class SignalSource {
  private let descriptor: Int32
  private var mask = sigset_t()
  private var watch: EventLoop.Watch?

  /// - Parameter handler: gets the signal's number, once for each delivery; the kernel merges
  ///   equal signals that were not fetched yet.
  public init(_ signals: [Int32], handler: @escaping (Int32) -> Void) throws(SystemError) {
    sigemptyset(&mask)
    for signal in signals { sigaddset(&mask, signal) }
    guard sigprocmask(SIG_BLOCK, &mask, nil) == 0 else { throw .last("sigprocmask") }
    descriptor = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
    guard descriptor >= 0 else { throw .last("signalfd") }
    let descriptor = descriptor
    watch = try EventLoop.shared.watch(descriptor, .read) { _ in
      var info = signalfd_siginfo()
      while read(descriptor, &info, MemoryLayout<signalfd_siginfo>.size)
        == MemoryLayout<signalfd_siginfo>.size
      { handler(Int32(info.ssi_signo)) }
    }
  }

  /// Stops listening and restores the signals' effect.
  public func cancel() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    close(descriptor)
    sigprocmask(SIG_UNBLOCK, &mask, nil)
  }
}
