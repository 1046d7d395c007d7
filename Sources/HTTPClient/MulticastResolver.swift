import CSystemd
import EventLoop
import Glibc

/// Addresses of names that end in `.local`, by asking the links around (RFC 6762).
///
/// A one-shot query leaves over every interface that can multicast, at once and twice a second, and is over
/// with the first answer or after three seconds (specification, host 9.6). Nothing listens in between, and no
/// other program is needed.
final class MulticastResolver {
  static let suffix = ".local"
  static let limit = Duration.seconds(3)
  static let interval = Duration.milliseconds(500)
  /// An answer to a query of this kind does not hold for long; this is what libcurl takes, too.
  static let lifetime = Duration.seconds(60)
  static let cacheLimit = 16
  private static let interfaceLimit = 32

  private var known: [String: (addresses: [String], readAt: MonotonicTime)] = [:]

  /// Whether the name is one that is asked for here.
  static func covers(_ host: String) -> Bool { host.lowercased().hasSuffix(suffix) }

  /// What was learned lately.
  func cached(_ host: String) -> [String]? {
    guard let entry = known[host], .read() - entry.readAt < Self.lifetime else { return nil }
    return entry.addresses
  }

  /// Numeric addresses, IPv4 first; empty when nobody knows the name.
  func addresses(of host: String) async -> [String] {
    let id = UInt16.random(in: 1...UInt16.max)
    guard let query = MulticastMessage.query(host, id: id) else { return [] }
    let descriptor = csystemd_datagram_socket()
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var found: [String] = []
    let arrival = Alarm()
    let listener = try? EventLoop.shared.watch(descriptor, .read) { _ in
      found = Self.receive(descriptor, host, id)
      if !found.isEmpty { arrival.ring() }
    }
    guard let listener else { return [] }
    defer { listener.cancel() }
    let end = MonotonicTime.read() + Self.limit
    while found.isEmpty, .read() < end, !Task.isCancelled {
      Self.send(query, descriptor)
      await arrival.wait(Self.interval)
    }
    if !found.isEmpty {
      if known.count >= Self.cacheLimit { known = [:] }
      known[host] = (found, .read())
    }
    return found
  }

  private static func send(_ query: [UInt8], _ descriptor: Int32) {
    guard let list = if_nameindex() else { return }
    defer { if_freenameindex(list) }
    var position = 0
    // An interface that is down, or has no address, refuses; the others count.
    while list[position].if_index != 0, position < interfaceLimit {
      _ = csystemd_multicast_query(descriptor, Int32(list[position].if_index), query, query.count)
      position += 1
    }
  }

  private static func receive(_ descriptor: Int32, _ host: String, _ id: UInt16) -> [String] {
    var buffer = [UInt8](repeating: 0, count: 9000)
    for _ in 0..<64 {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count > 0 else { break }
      let found = MulticastMessage.addresses(in: Array(buffer[..<count]), for: host, id: id)
      if !found.isEmpty { return found.compactMap(text) }
    }
    return []
  }

  /// inet_ntop(3).
  private static func text(_ address: [UInt8]) -> String? {
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let family = address.count == 4 ? AF_INET : AF_INET6
    guard inet_ntop(family, address, &buffer, socklen_t(buffer.count)) != nil else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
