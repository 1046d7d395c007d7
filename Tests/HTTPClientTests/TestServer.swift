import CSystemd
import EventLoop
import Glibc
import TestSupport

/// A server of raw sockets on the loop; each test writes what it answers.
final class TestServer {
  let unixPath: String?
  private(set) var port: UInt16 = 0
  private let listener: Int32
  private var watch: EventLoop.Watch?
  private let serve: (Peer) async -> Void
  private(set) var acceptedConnections = 0
  private var peers: [Peer] = []

  /// - Parameter unixPath: nil listens on a free port of the loopback interface.
  init(unixPath: String? = nil, _ serve: @escaping (Peer) async -> Void) throws {
    LoopDriver.start()
    self.unixPath = unixPath
    self.serve = serve
    listener = csystemd_stream_socket(unixPath == nil ? AF_INET : AF_UNIX)
    let status: Int32
    if let unixPath {
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: unixPath.utf8) }
      status = withUnsafeBytes(of: &address) {
        bind(listener, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      status = withUnsafeBytes(of: &address) {
        bind(listener, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
      var bound = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      _ = withUnsafeMutableBytes(of: &bound) {
        getsockname(listener, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, &length)
      }
      port = UInt16(bigEndian: bound.sin_port)
    }
    guard status == 0, listen(listener, 256) == 0 else { throw SystemError.last("bind") }
    watch = try EventLoop.shared.watch(listener, .read) { [weak self] _ in self?.accept() }
  }

  var url: String { unixPath == nil ? "http://127.0.0.1:\(port)" : "http://localhost" }

  private func accept() {
    let descriptor = csystemd_accept(listener)
    guard descriptor >= 0 else { return }
    acceptedConnections += 1
    let peer = Peer(descriptor)
    peers.append(peer)
    let serve = serve
    Task {
      await serve(peer)
      peer.close()
    }
  }

  func close() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    Glibc.close(listener)
    for peer in peers { peer.close() }
    peers = []
  }
}

/// The server's end of one connection.
final class Peer {
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var watch: EventLoop.Watch?
  private var waiter: CheckedContinuation<Void, Never>?
  private(set) var isClosed = false
  /// The other side has gone.
  private(set) var sawEnd = false

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    watch?.cancel()
    watch = nil
    Glibc.close(descriptor)
    waiter.take()?.resume()
  }

  private func wait(_ interest: EventLoop.Interest) async {
    guard !isClosed else { return }
    await withCheckedContinuation { continuation in
      waiter = continuation
      watch = try? EventLoop.shared.watch(descriptor, interest) { [weak self] _ in
        self?.watch?.cancel()
        self?.watch = nil
        self?.waiter.take()?.resume()
      }
    }
  }

  /// More input; false at its end.
  private func fill() async -> Bool {
    while !isClosed {
      var chunk = [UInt8](repeating: 0, count: 65536)
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count > 0 {
        buffer += chunk[..<count]
        return true
      }
      if count == 0 || errno != EAGAIN {
        sawEnd = true
        return false
      }
      await wait(.read)
    }
    return false
  }

  /// Up to and including the empty line; nil when the other side has gone.
  func readHead() async -> String? {
    let end = Array("\r\n\r\n".utf8)
    while true {
      for at in 0..<max(0, buffer.count - 3) where buffer[at..<at + 4].elementsEqual(end) {
        let head = String(decoding: buffer[..<at], as: UTF8.self)
        buffer.removeFirst(at + 4)
        return head
      }
      guard await fill() else { return nil }
    }
  }

  func read(_ count: Int) async -> [UInt8] {
    while buffer.count < count { guard await fill() else { break } }
    let taken = Array(buffer.prefix(count))
    buffer.removeFirst(taken.count)
    return taken
  }

  /// The content of a chunked body; nil when it is cut off.
  func readChunks() async -> [UInt8]? {
    var body: [UInt8] = []
    while true {
      var line: [UInt8] = []
      while line.suffix(2) != [13, 10] {
        let byte = await read(1)
        guard !byte.isEmpty else { return nil }
        line += byte
      }
      guard let size = Int(String(decoding: line.dropLast(2), as: UTF8.self), radix: 16) else { return nil }
      let chunk = await read(size + 2)
      guard chunk.count == size + 2 else { return nil }
      if size == 0 { return body }
      body += chunk.dropLast(2)
    }
  }

  /// Waits for the other side to take it; false when it has gone.
  @discardableResult
  func write(_ bytes: [UInt8]) async -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty, !isClosed {
      let count = rest.withUnsafeBytes {
        send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN {
        await wait(.write)
      } else {
        return false
      }
    }
    return rest.isEmpty
  }

  @discardableResult
  func write(_ text: String) async -> Bool { await write(Array(text.utf8)) }

  /// A complete answer that keeps the connection.
  func answer(_ status: String = "200 OK", headers: [String] = [], _ body: String = "") async {
    let lines = ["HTTP/1.1 \(status)", "Content-Length: \(body.utf8.count)"] + headers
    await write(lines.joined(separator: "\r\n") + "\r\n\r\n" + body)
  }

  /// Waits until the other side closes.
  func waitForEnd() async { while await fill() {} }
}
