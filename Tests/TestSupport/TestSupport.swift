import Dispatch
import EventLoop
import Glibc

/// Drives the event loop from the main queue.
///
/// Under `swift test` the main executor is the stock one. The loop's descriptor is pollable,
/// so a read source of the main queue runs a turn when a watch is ready, and a repeating timer
/// stands in for the time that `epoll_wait` would wait for.
public enum LoopDriver {
  private static var source: (any DispatchSourceRead)?
  private static var timer: (any DispatchSourceTimer)?

  /// Absolute path of an executable that the package builds beside the tests; nil when there is none.
  public static func product(_ name: String) -> String? {
    guard let path = realpath("/proc/self/exe", nil) else { return nil }
    defer { free(path) }
    // Either the test bundle itself runs, or the toolchain's helper loads it by its path.
    let candidates = [String(cString: path)] + CommandLine.arguments
    for candidate in candidates where candidate.hasPrefix("/") {
      guard let slash = candidate.lastIndex(of: "/") else { continue }
      let product = candidate[..<slash] + "/" + name
      if access(String(product), X_OK) == 0 { return String(product) }
    }
    return nil
  }

  /// Idempotent.
  public static func start() {
    guard source == nil else { return }
    let source = DispatchSource.makeReadSource(
      fileDescriptor: EventLoop.shared.descriptor, queue: .main)
    source.setEventHandler { EventLoop.shared.turn(mayWait: false) }
    source.activate()
    self.source = source

    let timer = DispatchSource.makeTimerSource(queue: .main)
    timer.schedule(deadline: .now(), repeating: .milliseconds(2), leeway: .milliseconds(1))
    timer.setEventHandler { EventLoop.shared.turn(mayWait: false) }
    timer.activate()
    self.timer = timer
  }
}
