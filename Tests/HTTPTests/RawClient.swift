import CSystemd
import EventLoop
import Glibc
import TestSupport

@testable import HTTP

/// A client that sends exactly the bytes that a test wants.
final class RawClient {
  let descriptor: Int32
  private(set) var received: [UInt8] = []
  private(set) var hasEnded = false

  /// - Parameter receiveBuffer: of the socket, in bytes; small for a client that reads slowly.
  init(port: UInt16, receiveBuffer: Int32? = nil) throws {
    descriptor = csystemd_stream_socket(AF_INET)
    if let receiveBuffer { Socket.setOption(descriptor, SOL_SOCKET, SO_RCVBUF, receiveBuffer) }
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
    let status = Socket.withAddress(&name) { connect(descriptor, $0, $1) }
    guard status == 0 || errno == EINPROGRESS else { throw SystemError.last("connect") }
  }

  init(path: String) throws {
    descriptor = csystemd_stream_socket(AF_UNIX)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
    let status = Socket.withAddress(&name) { connect(descriptor, $0, $1) }
    guard status == 0 else { throw SystemError.last("connect") }
  }

  private var isOpen = true

  func close() {
    if isOpen { Glibc.close(descriptor) }
    isOpen = false
  }

  isolated deinit { close() }

  /// Sends everything, waiting for the socket; false when the server has closed.
  @discardableResult
  func send(_ bytes: [UInt8]) async -> Bool {
    var rest = bytes[...]
    let start = ContinuousClock.now
    while !rest.isEmpty, ContinuousClock.now - start < .seconds(20) {
      let sent = rest.withUnsafeBufferPointer { buffer in
        buffer.baseAddress.map { Socket.send(descriptor, $0, buffer.count) } ?? 0
      }
      if sent > 0 {
        rest = rest.dropFirst(sent)
      } else if errno == EAGAIN || errno == ENOTCONN {
        try? await Task.sleep(for: .milliseconds(1))
      } else {
        return false
      }
    }
    return rest.isEmpty
  }

  @discardableResult
  func send(_ text: String) async -> Bool { await send(Array(text.utf8)) }

  func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Takes what has arrived.
  func poll() {
    var piece = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = piece.withUnsafeMutableBufferPointer { space in
        space.baseAddress.map { Socket.receive(descriptor, $0, space.count) } ?? 0
      }
      if count > 0 {
        received += piece[..<count]
      } else {
        if count == 0 || errno != EAGAIN && errno != ENOTCONN { hasEnded = true }
        return
      }
    }
  }

  var text: String { String(decoding: received, as: UTF8.self) }

  /// Everything until the server closes; nil when it does not.
  func readToEnd() async -> String? {
    let ended = await eventually {
      poll()
      return hasEnded
    }
    return ended ? text : nil
  }

  /// Everything until `end` has arrived; nil when it does not.
  func read(until end: String, count: Int = 1) async -> String? {
    let arrived = await eventually {
      poll()
      return text.components(of: end) >= count || hasEnded
    }
    return arrived && text.components(of: end) >= count ? text : nil
  }

  /// The rest of this text is what the next read returns.
  func clear() { received = [] }
}

extension String {
  /// How often `part` is in it.
  func components(of part: String) -> Int {
    let (whole, wanted) = (Array(utf8), Array(part.utf8))
    guard whole.count >= wanted.count, !wanted.isEmpty else { return 0 }
    var found = 0
    var at = 0
    while at <= whole.count - wanted.count {
      if whole[at] == wanted[0], whole[at..<at + wanted.count].elementsEqual(wanted) {
        found += 1
        at += wanted.count
      } else {
        at += 1
      }
    }
    return found
  }
}

/// A server with a few routes, on a port that the system chooses.
final class Fixture {
  let server: Server
  var responders: [Responder] = []
  var cancelled = 0
  var bodies: [String] = []
  var finished: [String] = []
  var authorised = 0

  init(_ configuration: Server.Configuration = Server.Configuration(), key: String? = nil) throws {
    LoopDriver.start()
    var pipeline = Pipeline()
    let ok = PreparedResponse(.html("OK"))
    weak var fixture: Fixture?
    pipeline.open = [Route(.get, "/ping") { _ in .prepared(ok) }]
    pipeline.authorize = { request in
      fixture?.authorised += 1
      guard let key else { return nil }
      return request.query("key") == [key] ? nil : .text("Unauthorized", status: 401)
    }
    pipeline.bodiless = [Route(.post, "/blink") { _ in .text("") }]
    pipeline.routes = [
      Route(.post, "/echo") { request in
        fixture?.bodies.append(String(decoding: request.body, as: UTF8.self))
        guard let value = try? request.parsedBody() else { return .empty(500) }
        return .json(value)
      },
      Route(.get, "/things/:id/state") { request in .text(request.parameter("id") ?? "none") },
      Route(.patch, "/things/:id/state") { _ in .empty(204) },
      Route(.get, "/large") { _ in
        Response(200, contentType: nil, body: [UInt8](repeating: 0x7E, count: 4_000_000))
      },
      Route(.get, "/later") { request in
        let responder = request.deferAnswer()
        responder.onCancel { fixture?.cancelled += 1 }
        fixture?.responders.append(responder)
        return nil
      },
      Route(.get, "/forgotten") { request in
        _ = request.deferAnswer()
        return nil
      },
      Route(.get, "/release") { _ in
        let waiting = fixture?.responders ?? []
        fixture?.responders = []
        for responder in waiting { responder.respond(.text("late")) }
        return .text("released")
      },
      Route(.get, "/stream") { _ in
        .stream(contentType: "text/plain") { writer in
          for number in 1...3 { try? await writer.write("line \(number)\n") }
        }
      },
      Route(.get, "/flood") { _ in
        .stream { writer in
          let piece = [UInt8](repeating: 0x78, count: 16 * 1024)
          do {
            while true {
              try await writer.write(piece)
              fixture?.flooded += piece.count
            }
          } catch { fixture?.cancelled += 1 }
        }
      },
      Route(.get, "/quiet") { _ in
        .stream { _ in
          do { try await Task.sleep(for: .seconds(600)) } catch { fixture?.cancelled += 1 }
        }
      },
    ]
    pipeline.onFinish = { fixture?.finished.append("\($0.method) \($0.path) \($0.status) \($0.byteCount)") }
    server = Server(configuration: configuration, pipeline: pipeline)
    try server.listen(on: .tcp(host: "127.0.0.1", port: 0))
    fixture = self
  }

  var flooded = 0

  func client(receiveBuffer: Int32? = nil) throws -> RawClient {
    try RawClient(port: server.port ?? 0, receiveBuffer: receiveBuffer)
  }

  /// Sends one request and reads until the connection is closed.
  func exchange(_ text: String) async throws -> String {
    let client = try client()
    await client.send(text)
    return await client.readToEnd() ?? "not closed: \(client.text)"
  }

  /// A request without a body on a connection of its own.
  func get(_ method: String, _ target: String, _ fields: String = "") async throws -> String {
    try await exchange("\(method) \(target) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(fields)\r\n")
  }
}
