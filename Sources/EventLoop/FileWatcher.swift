import Glibc

/// Calls back when anyone has written or replaced a file (inotify(7)), so that edits by the host's
/// tools are seen at once and nothing has to be polled.
///
/// The directory is watched, because a durable write replaces the file's inode. Several events that
/// arrive together make one call. The agent's own writes are reported, too.
public final class FileWatcher {
  private let watch: FileWatch

  /// What to tell of.
  public enum Interest {
    /// Somebody has written the file, or put another in its place.
    case content
    /// The file has come or gone.
    case presence

    fileprivate var mask: UInt32 {
      switch self {
      case .content: UInt32(IN_CLOSE_WRITE | IN_MOVED_TO)
      case .presence: UInt32(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
      }
    }
  }

  /// - Throws: `inotify_add_watch` when the file's directory does not exist, or the kernel has no watch left.
  public init(
    _ path: String, for interest: Interest = .content, loop: EventLoop = .shared,
    onChange: @escaping () -> Void
  ) throws(SystemError) {
    watch = try FileWatch(path, interest.mask, loop: loop, onChange: onChange)
  }

  /// Ends the watch; idempotent.
  public func cancel() { watch.cancel() }
}

/// What a watcher holds. An isolated deinit of a public class does not compile across modules.
private final class FileWatch {
  private let descriptor: Int32
  private let name: [UInt8]
  private let onChange: () -> Void
  private var watch: EventLoop.Watch?

  init(_ path: String, _ mask: UInt32, loop: EventLoop, onChange: @escaping () -> Void) throws(SystemError) {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    name = Array(slash.map { path.utf8[path.utf8.index(after: $0)...] } ?? path.utf8[...])
    let directory = slash.map { $0 == path.utf8.startIndex ? "/" : String(path[..<$0]) } ?? "."
    self.onChange = onChange
    descriptor = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
    guard descriptor >= 0 else { throw .last("inotify_init1") }
    guard inotify_add_watch(descriptor, directory, mask) >= 0 else {
      let error = SystemError.last("inotify_add_watch")
      close(descriptor)
      throw error
    }
    do throws(SystemError) {
      watch = try loop.watch(descriptor, .read) { [weak self] _ in self?.takeEvents() }
    } catch {
      close(descriptor)
      throw error
    }
  }

  isolated deinit { cancel() }

  func cancel() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    close(descriptor)
  }

  private func takeEvents() {
    let header = MemoryLayout<inotify_event>.size
    var buffer = [UInt8](repeating: 0, count: 4096)
    var isAffected = false
    while watch != nil {
      let count = read(descriptor, &buffer, buffer.count)
      guard count > 0 else { break }
      var at = 0
      while at + header <= count {
        let event = buffer.withUnsafeBytes { bytes in
          bytes.loadUnaligned(fromByteOffset: at, as: inotify_event.self)
        }
        let end = min(at + header + Int(event.len), count)
        let hasOverflown = event.mask & UInt32(IN_Q_OVERFLOW) != 0
        if hasOverflown || buffer[(at + header)..<end].prefix(while: { $0 != 0 }).elementsEqual(name) {
          isAffected = true
        }
        at = end
      }
    }
    if isAffected { onChange() }
  }
}
