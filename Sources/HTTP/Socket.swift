import CSystemd
import EventLoop
import Glibc

/// Calls on sockets, with what Swift's import of them needs. None raises SIGPIPE.
nonisolated enum Socket {
  /// send(2); -1 with `errno` set on failure.
  @inline(__always)
  static func send(_ descriptor: Int32, _ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int {
    while true {
      let sent = Glibc.send(descriptor, bytes, count, Int32(MSG_NOSIGNAL))
      if sent >= 0 || errno != EINTR { return sent }
    }
  }

  /// sendmsg(2) with several pieces.
  static func send(_ descriptor: Int32, _ pieces: UnsafeMutablePointer<iovec>?, _ count: Int) -> Int {
    var message = msghdr()
    message.msg_iov = pieces
    message.msg_iovlen = count
    while true {
      let sent = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
      if sent >= 0 || errno != EINTR { return sent }
    }
  }

  /// read(2); -1 with `errno` set on failure.
  @inline(__always)
  static func receive(_ descriptor: Int32, _ space: UnsafeMutablePointer<UInt8>, _ capacity: Int) -> Int {
    while true {
      let count = recv(descriptor, space, capacity, 0)
      if count >= 0 || errno != EINTR { return count }
    }
  }

  static func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  /// Calls `body` with a C view of any of the address structures.
  static func withAddress<Address, Result>(
    _ address: inout Address, _ body: (UnsafeMutablePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    withUnsafeMutableBytes(of: &address) { bytes in
      // The structure is not empty, so there is an address.
      bytes.withMemoryRebound(to: sockaddr.self) { rebound in
        guard let pointer = rebound.baseAddress else { preconditionFailure("empty address") }
        return body(pointer, socklen_t(bytes.count))
      }
    }
  }

  /// The port a TCP socket is bound to; 0 for other sockets.
  static func port(of descriptor: Int32) -> UInt16 {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    guard withAddress(&storage, { address, _ in getsockname(descriptor, address, &length) }) == 0 else {
      return 0
    }
    let family = Int32(storage.ss_family)
    return withUnsafeBytes(of: &storage) { bytes in
      switch family {
      case AF_INET: UInt16(bigEndian: bytes.loadUnaligned(as: sockaddr_in.self).sin_port)
      case AF_INET6: UInt16(bigEndian: bytes.loadUnaligned(as: sockaddr_in6.self).sin6_port)
      default: 0
      }
    }
  }

  static func isTCP(_ descriptor: Int32) -> Bool {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    guard withAddress(&storage, { address, _ in getsockname(descriptor, address, &length) }) == 0 else {
      return false
    }
    return storage.ss_family == sa_family_t(AF_INET) || storage.ss_family == sa_family_t(AF_INET6)
  }
}
