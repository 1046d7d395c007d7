import CSystemd
import DeviceAPI
import EventLoop
import Glibc
import HostConfiguration

/// Addresses of the device as `GET /v1/device` shows them (host 9), read when somebody asks and the
/// last answer is old.
final class NetworkFacts {
  private(set) var facts = DeviceFacts()
  /// Goes up when `facts` has changed.
  private(set) var revision: UInt64 = 0
  private let interfaces: String
  private var readAt: MonotonicTime?

  /// A changed address shows after this long at the latest.
  private static let lifetime = Duration.seconds(10)

  /// - Parameter interfaces: sysfs directory of the network interfaces.
  init(interfaces: String) { self.interfaces = interfaces }

  /// The next question reads anew.
  func forget() { readAt = nil }

  /// The arguments are asked for only when something is read.
  func refresh(listenPort: @autoclosure () -> Int, osVersion: @autoclosure () -> String?) {
    let now = EventLoop.shared.now
    if let readAt, now - readAt < Self.lifetime { return }
    readAt = now
    var fresh = DeviceFacts()
    fresh.listenPort = listenPort()
    fresh.osVersion = osVersion()
    fresh.addresses = Self.addresses()
    let hardware = macAddresses()
    fresh.macAddresses = hardware.isEmpty ? nil : hardware.joined(separator: " ")
    guard fresh != facts else { return }
    facts = fresh
    revision += 1
  }
}

extension NetworkFacts {
  /// Of interfaces that are up: IPv4 and IPv6 without loopback and link-local, interface by interface.
  static func addresses() -> [String] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return [] }
    defer { freeifaddrs(first) }
    var names: [String] = []
    var found: [String: [String]] = [:]
    var next = first
    while let entry = next?.pointee {
      next = entry.ifa_next
      let name = String(cString: entry.ifa_name)
      let flags = entry.ifa_flags
      guard flags & UInt32(IFF_UP) != 0, flags & UInt32(IFF_RUNNING) != 0,
        flags & UInt32(IFF_LOOPBACK) == 0, !isIgnored(name), let address = entry.ifa_addr,
        let text = text(of: address)
      else { continue }
      if found[name] == nil { names.append(name) }
      found[name, default: []].append(text)
    }
    return names.flatMap { found[$0] ?? [] }
  }

  /// Of interfaces that are hardware, upper case.
  private func macAddresses() -> [String] {
    guard let directory = opendir(interfaces) else { return [] }
    defer { closedir(directory) }
    var found: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      let path = "\(interfaces)/\(name)"
      guard !name.hasPrefix("."), !Self.isIgnored(name), Self.line("\(path)/type") == "1",
        access("\(path)/master", F_OK) != 0
      else { continue }
      let address = (Self.line("\(path)/address") ?? "").uppercased()
      if !address.isEmpty, !found.contains(address) { found.append(address) }
    }
    return found
  }

  /// Names of host 9.3.
  nonisolated static func isIgnored(_ name: String) -> Bool {
    if ["resin-vpn", "lo", "resin-dns", "supervisor0", "balena-redsocks", "resin-redsocks"].contains(name) {
      return true
    }
    for prefix in ["balena", "docker", "rce", "tun"] where name.hasPrefix(prefix) {
      let rest = name.dropFirst(prefix.count).utf8
      if !rest.isEmpty, rest.allSatisfy({ (0x30...0x39).contains($0) }) { return true }
    }
    guard name.hasPrefix("br-") else { return false }
    let rest = name.dropFirst(3).utf8
    return rest.count == 12 && rest.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  private static func line(_ path: String) -> String? {
    guard let bytes = try? DurableFile.read(path) else { return nil }
    return String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self).filter { !$0.isWhitespace }
  }

  private static func text(of address: UnsafeMutablePointer<sockaddr>) -> String? {
    let family = Int32(address.pointee.sa_family)
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let isRead: Bool
    switch family {
    case AF_INET:
      isRead = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
        inet_ntop(AF_INET, &address.pointee.sin_addr, &buffer, socklen_t(INET6_ADDRSTRLEN)) != nil
      }
    case AF_INET6:
      isRead = address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
        address.pointee.sin6_scope_id == 0
          && inet_ntop(AF_INET6, &address.pointee.sin6_addr, &buffer, socklen_t(INET6_ADDRSTRLEN)) != nil
      }
    default: return nil
    }
    guard isRead else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
