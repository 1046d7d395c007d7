import CSystemd
public import EventLoop
import Glibc

/// Where a server listens.
public nonisolated enum ListenSocket: Hashable, Sendable {
  /// `host` nil means every address of the device, IPv4 and IPv6.
  case tcp(host: String?, port: UInt16)
  case unix(path: String)
  /// A listening socket that someone else has opened (sd_listen_fds(3)).
  case descriptor(Int32)

  /// `address:port`, `[address]:port`, `:port`, `*:port` or `unix:///path`; nil for everything else.
  public init?(_ text: String) {
    if text.hasPrefix("unix://") {
      let path = String(text.dropFirst("unix://".count))
      guard path.hasPrefix("/") else { return nil }
      self = .unix(path: path)
      return
    }
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
      return nil
    }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    self = .tcp(host: host.isEmpty || host == "*" ? nil : host, port: port)
  }
}

nonisolated extension ListenSocket: CustomStringConvertible {
  public var description: String {
    switch self {
    case .tcp(let host?, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .tcp(nil, let port): "port \(port) of all addresses"
    case .unix(let path): path
    case .descriptor(let number): "the passed socket \(number)"
    }
  }
}

/// `cannot listen on 127.0.0.1:48484: Address already in use`
public nonisolated struct ListenError: Error, Sendable, CustomStringConvertible {
  public let socket: ListenSocket
  public let cause: SystemError

  public var description: String { "cannot listen on \(socket): \(cause.reason)" }
}

nonisolated extension ListenSocket {
  private static let backlog: Int32 = 1024
  /// Owner and group may connect.
  private static let socketMode: mode_t = 0o660

  /// The listening, non-blocking descriptor; the caller owns it.
  func open() throws(ListenError) -> Int32 {
    do throws(SystemError) {
      switch self {
      case .tcp(let host, let port): return try Self.openTCP(host, port)
      case .unix(let path): return try Self.openUnix(path)
      case .descriptor(let number):
        guard fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK) == 0 else { throw .last("fcntl") }
        return number
      }
    } catch {
      throw ListenError(socket: self, cause: error)
    }
  }

  private static func openTCP(_ host: String?, _ port: UInt16) throws(SystemError) -> Int32 {
    var six = sockaddr_in6()
    six.sin6_family = sa_family_t(AF_INET6)
    six.sin6_port = port.bigEndian
    var four = sockaddr_in()
    four.sin_family = sa_family_t(AF_INET)
    four.sin_port = port.bigEndian
    switch host {
    case nil:
      // One socket for both families; without IPv6 in the kernel, one for IPv4.
      do throws(SystemError) {
        return try bind(AF_INET6, &six, MemoryLayout<sockaddr_in6>.size, isDualStack: true)
      } catch  where error.code == EAFNOSUPPORT || error.code == EADDRNOTAVAIL {
        return try bind(AF_INET, &four, MemoryLayout<sockaddr_in>.size)
      }
    case let host? where inet_pton(AF_INET, host, &four.sin_addr) == 1:
      return try bind(AF_INET, &four, MemoryLayout<sockaddr_in>.size)
    case let host? where inet_pton(AF_INET6, host, &six.sin6_addr) == 1:
      return try bind(AF_INET6, &six, MemoryLayout<sockaddr_in6>.size)
    case "localhost":
      inet_pton(AF_INET, "127.0.0.1", &four.sin_addr)
      return try bind(AF_INET, &four, MemoryLayout<sockaddr_in>.size)
    default: throw SystemError(code: EINVAL, call: "inet_pton")
    }
  }

  private static func openUnix(_ path: String) throws(SystemError) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw SystemError(code: ENAMETOOLONG, call: "bind")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let size = MemoryLayout<sockaddr_un>.size
    let descriptor: Int32
    do throws(SystemError) {
      descriptor = try bind(AF_UNIX, &address, size)
    } catch  where error.code == EADDRINUSE && !isAlive(&address, size) {
      // Left behind by a process that is gone.
      unlink(path)
      descriptor = try bind(AF_UNIX, &address, size)
    }
    chmod(path, socketMode)
    return descriptor
  }

  private static func isAlive(_ address: UnsafeRawPointer, _ size: Int) -> Bool {
    let probe = csystemd_stream_socket(AF_UNIX)
    guard probe >= 0 else { return true }
    defer { close(probe) }
    return connect(probe, address.assumingMemoryBound(to: sockaddr.self), socklen_t(size)) == 0
      || errno == EAGAIN
  }

  private static func bind(
    _ family: Int32, _ address: UnsafeRawPointer, _ size: Int, isDualStack: Bool = false
  ) throws(SystemError) -> Int32 {
    let descriptor = csystemd_stream_socket(family)
    guard descriptor >= 0 else { throw .last("socket") }
    var failed = true
    defer { if failed { close(descriptor) } }
    var one: Int32 = 1
    var zero: Int32 = 0
    let length = socklen_t(MemoryLayout<Int32>.size)
    if family != AF_UNIX { setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, length) }
    if isDualStack { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &zero, length) }
    let status = Glibc.bind(descriptor, address.assumingMemoryBound(to: sockaddr.self), socklen_t(size))
    guard status == 0 else { throw .last("bind") }
    guard listen(descriptor, backlog) == 0 else { throw .last("listen") }
    failed = false
    return descriptor
  }
}
