import CSystemd
import EventLoop
import Glibc

/// Where a server listens.
public nonisolated enum ListenSocket: Hashable, Sendable, CustomStringConvertible {
  /// One numeric IPv4 or IPv6 address, or, with nil, every address of the device: IPv4 and
  /// IPv6, or IPv4 alone where the kernel has no IPv6.
  case tcp(host: String?, port: UInt16)
  /// A numeric IPv4 address that the device need not have yet, such as that of a bridge that is made later
  /// (IP_FREEBIND of ip(7)).
  case tcpFree(host: String, port: UInt16)
  /// A unix socket, readable and writable for owner and group. A file that a dead server left
  /// is replaced, one that a living server uses is not.
  case unix(path: String)
  /// A listening socket made by somebody else; the server owns it from then on.
  case descriptor(Int32)

  /// The sockets that systemd passed to this process (sd_listen_fds(3)).
  public static func passedBySystemd() -> [ListenSocket] {
    let count = sd_listen_fds(0)
    guard count > 0 else { return [] }
    // SD_LISTEN_FDS_START of the man page.
    return (3..<3 + count).filter { sd_is_socket($0, AF_UNSPEC, Int32(SOCK_STREAM.rawValue), 1) > 0 }
      .map(ListenSocket.descriptor)
  }

  /// `address:port`, `[address]:port`, `:port`, `*:port` or `unix:///path`; nil for all else.
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
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    self = .tcp(host: host.isEmpty || host == "*" ? nil : String(host), port: port)
  }

  public var description: String {
    switch self {
    case .tcp(let host?, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .tcpFree(let host, let port): "\(host):\(port)"
    case .tcp(nil, let port): "port \(port) of all addresses"
    case .unix(let path): path
    case .descriptor(let number): "the passed socket \(number)"
    }
  }
}

/// Why a server cannot listen; the description names the address.
public nonisolated struct ListenError: Error, Hashable, Sendable, CustomStringConvertible {
  public let socket: ListenSocket
  public let reason: String

  public var description: String { "cannot listen on \(socket): \(reason)" }

  /// What `errno` says right now.
  static func last(_ socket: ListenSocket) -> ListenError {
    ListenError(socket: socket, reason: SystemError.last("").reason)
  }
}

nonisolated extension ListenSocket {
  /// Opens, binds and starts listening.
  func open() throws(ListenError) -> Int32 {
    switch self {
    case .tcp(nil, let port):
      do {
        return try openIPv6(in6addr_any, port, dualStack: true)
      } catch {
        guard access("/proc/net/if_inet6", F_OK) != 0 else { throw error }
        return try openIPv4(in_addr(s_addr: 0), port)
      }
    case .tcp(let host?, let port):
      let text = host == "localhost" ? "127.0.0.1" : host
      var four = in_addr()
      if inet_pton(AF_INET, text, &four) == 1 { return try openIPv4(four, port) }
      var six = in6_addr()
      if inet_pton(AF_INET6, text, &six) == 1 { return try openIPv6(six, port, dualStack: false) }
      throw ListenError(socket: self, reason: "not a numeric IP address")
    case .tcpFree(let host, let port):
      var address = in_addr()
      guard inet_pton(AF_INET, host, &address) == 1 else {
        throw ListenError(socket: self, reason: "not a numeric IPv4 address")
      }
      return try openIPv4(address, port, isFree: true)
    case .unix(let path):
      return try openUnix(path)
    case .descriptor(let number):
      let flags = fcntl(number, F_GETFL)
      guard flags >= 0, fcntl(number, F_SETFL, flags | O_NONBLOCK) == 0 else { throw .last(self) }
      _ = fcntl(number, F_SETFD, FD_CLOEXEC)
      return number
    }
  }

  private func openIPv4(
    _ address: in_addr, _ port: UInt16, isFree: Bool = false
  ) throws(ListenError) -> Int32 {
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr = address
    let descriptor = csystemd_stream_socket(AF_INET)
    if descriptor >= 0, isFree { Socket.setOption(descriptor, Int32(IPPROTO_IP), IP_FREEBIND, 1) }
    return try start(descriptor, &name)
  }

  private func openIPv6(_ address: in6_addr, _ port: UInt16, dualStack: Bool) throws(ListenError) -> Int32 {
    var name = sockaddr_in6()
    name.sin6_family = sa_family_t(AF_INET6)
    name.sin6_port = port.bigEndian
    name.sin6_addr = address
    let descriptor = csystemd_stream_socket(AF_INET6)
    if descriptor >= 0 {
      Socket.setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, dualStack ? 0 : 1)
    }
    return try start(descriptor, &name)
  }

  private func openUnix(_ path: String) throws(ListenError) -> Int32 {
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    let isTooLong = withUnsafeMutableBytes(of: &name.sun_path) { space in
      guard path.utf8.count < space.count else { return true }
      space.copyBytes(from: path.utf8)
      return false
    }
    guard !isTooLong else { throw ListenError(socket: self, reason: "path too long") }

    var facts = stat()
    if lstat(path, &facts) == 0 {
      guard facts.st_mode & S_IFMT == S_IFSOCK else {
        throw ListenError(socket: self, reason: "a file that is not a socket is in the way")
      }
      let probe = csystemd_stream_socket(AF_UNIX)
      guard probe >= 0 else { throw .last(self) }
      let isAlive = Socket.withAddress(&name) { connect(probe, $0, $1) } == 0 || errno != ECONNREFUSED
      close(probe)
      guard !isAlive else {
        throw ListenError(socket: self, reason: SystemError(code: EADDRINUSE, call: "").reason)
      }
      unlink(path)
    }
    let descriptor = try start(
      csystemd_stream_socket(AF_UNIX), &name,
      beforeListening: {
        // Nobody can connect before listen(2), so nobody sees the mode that the umask made.
        chmod(path, 0o660)
      })
    return descriptor
  }

  private func start<Address>(
    _ descriptor: Int32, _ name: inout Address, beforeListening: () -> Int32 = { 0 }
  ) throws(ListenError) -> Int32 {
    guard descriptor >= 0 else { throw .last(self) }
    Socket.setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
    guard Socket.withAddress(&name, { bind(descriptor, $0, $1) }) == 0, beforeListening() == 0,
      listen(descriptor, Limits.backlog) == 0
    else {
      let error = ListenError.last(self)
      close(descriptor)
      throw error
    }
    return descriptor
  }
}
