import CSystemd
public import EventLoop
import Glibc

/// Calls back when addresses or links of the host have changed (rtnetlink(7)).
///
/// Changes come in bursts, whenever a container starts or ends; a burst makes one call. What has changed
/// is for the caller to look at: a message may be lost when the socket's buffer runs over, and then, too,
/// there is a call.
public final class NetworkMonitor {
  private let watch: SocketWatch

  /// From the first message to the call.
  public static let settlingTime = Duration.seconds(1)

  /// - Throws: when the kernel has no such socket, or no descriptor is left.
  public init(loop: EventLoop = .shared, onChange: @escaping () -> Void) throws(FileError) {
    watch = try SocketWatch(loop: loop, onChange: onChange)
  }

  /// Ends it; idempotent.
  public func cancel() { watch.cancel() }
}

/// What a monitor holds. An isolated deinit of a public class does not compile across modules.
private final class SocketWatch {
  private let descriptor: Int32
  private let loop: EventLoop
  private let onChange: () -> Void
  private var watch: EventLoop.Watch?
  private var timer: LoopTimer?

  init(loop: EventLoop, onChange: @escaping () -> Void) throws(FileError) {
    self.loop = loop
    self.onChange = onChange
    descriptor = csystemd_network_monitor()
    guard descriptor >= 0 else { throw FileError("Cannot watch", "the network") }
    do {
      watch = try loop.watch(descriptor, .read) { [weak self] _ in self?.takeMessages() }
    } catch {
      close(descriptor)
      throw FileError(error.code, "Cannot watch the network: \(error)", path: "the network")
    }
  }

  isolated deinit { cancel() }

  func cancel() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    timer?.cancel()
    close(descriptor)
  }

  private func takeMessages() {
    var buffer = [UInt8](repeating: 0, count: 8192)
    // With a level-triggered descriptor what is left brings another event.
    for _ in 0..<16 where recv(descriptor, &buffer, buffer.count, 0) < 0 && errno != ENOBUFS { break }
    guard timer?.isScheduled != true else { return }
    timer = loop.schedule(after: NetworkMonitor.settlingTime) { [weak self] in self?.onChange() }
  }
}
