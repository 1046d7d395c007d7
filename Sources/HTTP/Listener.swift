import CSystemd
import EventLoop
import Glibc

/// A listening socket: accepts connections and hands them to the server.
public final class Listener {
  public let socket: ListenSocket
  /// The port that is really bound, for one that was asked for as 0; 0 for a unix socket.
  public let port: UInt16

  private let descriptor: Int32
  private let isTCP: Bool
  private unowned let server: Server
  private var watch: EventLoop.Watch?
  /// Inode of the socket file, so that only our own is removed.
  private var inode: ino_t?
  /// Gives a descriptor back when all are in use, so that a waiting client can be refused
  /// instead of making the loop spin on it.
  private var spare: Int32 = -1

  init(_ socket: ListenSocket, server: Server) throws(ListenError) {
    self.socket = socket
    self.server = server
    descriptor = try socket.open()
    port = Socket.port(of: descriptor)
    isTCP = Socket.isTCP(descriptor)
    if case .unix(let path) = socket {
      var facts = stat()
      if lstat(path, &facts) == 0 { inode = facts.st_ino }
    }
    takeSpare()
    do {
      watch = try server.loop.watch(descriptor, .read) { [unowned self] _ in self.accept() }
    } catch {
      Glibc.close(descriptor)
      throw ListenError(socket: socket, reason: error.reason)
    }
  }

  /// Made by somebody else: it cannot be opened again.
  var isPassed: Bool { if case .descriptor = socket { true } else { false } }

  var isAccepting = true {
    didSet { watch?.interest = isAccepting ? .read : [] }
  }

  func close() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    Glibc.close(descriptor)
    if spare >= 0 { Glibc.close(spare) }
    spare = -1
    if case .unix(let path) = socket, let inode {
      var facts = stat()
      if lstat(path, &facts) == 0, facts.st_ino == inode { unlink(path) }
    }
  }

  private func accept() {
    for _ in 0..<Limits.acceptsPerTurn {
      let accepted = csystemd_accept(descriptor)
      if accepted >= 0 {
        server.adopt(accepted, isTCP: isTCP)
        continue
      }
      switch errno {
      case EINTR, ECONNABORTED: continue
      case EMFILE, ENFILE:
        guard refuseOne() else { return pause() }
      case EAGAIN: return
      // No memory, or an error of the network that the next call may not meet.
      default: return pause()
      }
    }
  }

  /// Accepts with the spare descriptor and refuses.
  private func refuseOne() -> Bool {
    guard spare >= 0 else { return false }
    Glibc.close(spare)
    spare = -1
    let accepted = csystemd_accept(descriptor)
    if accepted >= 0 { server.refuse(accepted) }
    takeSpare()
    return spare >= 0
  }

  private func takeSpare() { spare = open("/dev/null", O_RDONLY | O_CLOEXEC) }

  /// Leaves the waiting clients alone for a moment.
  private func pause() {
    server.onTrouble?("accept on \(socket): \(SystemError.last("accept").reason)")
    watch?.interest = []
    _ = server.loop.schedule(after: .milliseconds(200), tolerance: .milliseconds(100)) { [weak self] in
      guard let self else { return }
      if self.spare < 0 { self.takeSpare() }
      self.watch?.interest = self.isAccepting ? .read : []
    }
  }
}
