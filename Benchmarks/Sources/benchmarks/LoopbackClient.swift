import Foundation
import Glibc

/// The least client that can measure: one blocking connection on 127.0.0.1 for one request.
nonisolated enum LoopbackClient {
  struct Answer {
    let status: Int
    let body: Data
  }

  /// A connected socket, which the caller closes.
  static func open(port: Int, timeoutSeconds: Int = 30) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw Failure("socket: \(String(cString: strerror(errno)))") }
    var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    let limitSize = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, limitSize)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, limitSize)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else {
      close(descriptor)
      throw Failure("port \(port): no connection")
    }
    return descriptor
  }

  static func send(_ text: String, to descriptor: Int32) throws {
    try send(Array(text.utf8), to: descriptor)
  }

  static func send(_ bytes: [UInt8], to descriptor: Int32) throws {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw Failure("the connection broke") }
      sent += count
    }
  }

  /// What has arrived, at least a byte.
  static func receive(_ descriptor: Int32) throws -> String {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { throw Failure("the connection ended, or nothing came") }
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// - Returns: nil when nothing listens on the port, or the connection broke.
  static func request(
    _ method: String, _ path: String, port: Int, body: Data? = nil, timeoutSeconds: Int = 30
  ) -> Answer? {
    guard let descriptor = try? open(port: port, timeoutSeconds: timeoutSeconds) else { return nil }
    defer { close(descriptor) }

    var message = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    if let body { message += "Content-Type: application/json\r\nContent-Length: \(body.count)\r\n" }
    let bytes = Array((message + "\r\n").utf8) + Array(body ?? Data())
    guard (try? send(bytes, to: descriptor)) != nil else { return nil }
    var received = Data()
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count >= 0 else { return nil }
      if count == 0 { break }
      received.append(contentsOf: buffer[..<count])
    }
    guard let end = received.range(of: Data("\r\n\r\n".utf8)) else { return nil }
    let head = String(decoding: received[..<end.lowerBound], as: UTF8.self)
    let words = head.split(separator: " ", maxSplits: 2)
    guard words.count > 1, let status = Int(words[1]) else { return nil }
    return Answer(status: status, body: received[end.upperBound...])
  }
}
