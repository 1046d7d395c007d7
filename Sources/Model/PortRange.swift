/// Consecutive ports of a container, published on consecutive ports of the host.
///
/// Source: target-state 3.5. Ports are kept as ranges and never expanded before the create call, so
/// that `1-65535` costs as much as one port.
public nonisolated struct PortRange: Sendable, Hashable {
  /// `tcp` or `udp`.
  public var transport: String
  /// Empty for all addresses.
  public var hostIp: String
  public var hostPorts: ClosedPorts
  public var containerPorts: ClosedPorts

  /// A first and a last port; of a definition such as `90-80` the last is the smaller one, which is
  /// an error only when the container is created.
  public struct ClosedPorts: Sendable, Hashable {
    public var first: Int
    public var last: Int

    public init(first: Int, last: Int) {
      self.first = first
      self.last = last
    }
  }

  public init(
    transport: String = "tcp", hostIp: String = "", hostPorts: ClosedPorts, containerPorts: ClosedPorts
  ) {
    self.transport = transport
    self.hostIp = hostIp
    self.hostPorts = hostPorts
    self.containerPorts = containerPorts
  }

  /// Parses `[[IP:][EXT[-EXTEND]:]]INT[-INTEND][/tcp|/udp]`.
  public init(parsing text: String) throws(ModelError) {
    let unparsable = ModelError("Could not parse port definition: \(text)")
    let mismatch = ModelError("Range for internal and external ports does not match: \(text)")
    var rest = Substring(text)
    transport = "tcp"
    for name in ["tcp", "udp"] where rest.hasSuffix("/" + name) {
      transport = name
      rest = rest.dropLast(4)
      break
    }
    let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
    guard let inside = parts.last.flatMap({ ClosedPorts(parsing: $0) }) else { throw unparsable }
    self.containerPorts = inside
    guard parts.count > 1 else {
      hostPorts = inside
      hostIp = ""
      return
    }
    let outsideText = parts[parts.count - 2]
    hostIp = parts.dropLast(2).joined(separator: ":")
    let isAddress = hostIp.utf8.allSatisfy { byte in
      byte == UInt8(ascii: ".") || byte == UInt8(ascii: ":") || Character(Unicode.Scalar(byte)).isHexDigit
    }
    guard isAddress, parts.count == 2 || !hostIp.isEmpty else { throw unparsable }
    if outsideText.isEmpty {
      // `:80` and `127.0.0.1::80` name an outside without a port; `::80` has no port at all.
      if parts.count == 2 || !hostIp.isEmpty { throw mismatch }
      throw unparsable
    }
    guard let outside = ClosedPorts(parsing: outsideText) else { throw unparsable }
    guard outside.last - outside.first == inside.last - inside.first else { throw mismatch }
    hostPorts = outside
  }

  /// The engine cannot publish these, and expanding them is not worth trying.
  public func checkForCreation() throws(ModelError) {
    guard containerPorts.last >= containerPorts.first, hostPorts.last >= hostPorts.first else {
      throw ModelError(
        "Incorrect port range! The end port cannot be larger than the start port!")
    }
    guard containerPorts.last <= 65535, hostPorts.last <= 65535 else {
      throw ModelError("Port out of range: \(description)")
    }
  }

  /// The one list of ranges for a set of single-port mappings (target-state 10, D1 and D2).
  ///
  /// Mappings of one transport, address and distance between outside and inside are a set of
  /// numbers; its maximal runs are unique whatever ranges it was given in.
  public static func normalized(_ ranges: [PortRange]) -> [PortRange] {
    let sorted = ranges.sorted { a, b in
      (
        a.transport, a.hostIp, a.hostPorts.first - a.containerPorts.first, a.containerPorts.first,
        a.containerPorts.last
      )
        < (
          b.transport, b.hostIp, b.hostPorts.first - b.containerPorts.first, b.containerPorts.first,
          b.containerPorts.last
        )
    }
    var result: [PortRange] = []
    for range in sorted {
      if let last = result.last, last.isContinued(by: range) {
        if range.containerPorts.last > last.containerPorts.last {
          result[result.count - 1].containerPorts.last = range.containerPorts.last
          result[result.count - 1].hostPorts.last = range.hostPorts.last
        }
      } else {
        result.append(range)
      }
    }
    return result.sorted { a, b in
      (a.containerPorts.first, a.hostIp, a.transport, a.hostPorts.first)
        < (b.containerPorts.first, b.hostIp, b.transport, b.hostPorts.first)
    }
  }

  private func isContinued(by next: PortRange) -> Bool {
    transport == next.transport && hostIp == next.hostIp
      && hostPorts.first - containerPorts.first == next.hostPorts.first - next.containerPorts.first
      && containerPorts.last >= containerPorts.first && next.containerPorts.last >= next.containerPorts.first
      && next.containerPorts.first <= containerPorts.last + 1
  }
}

nonisolated extension PortRange: CustomStringConvertible {
  public var description: String {
    let host = hostIp.isEmpty ? "" : hostIp + ":"
    return "\(host)\(hostPorts):\(containerPorts)/\(transport)"
  }
}

nonisolated extension PortRange.ClosedPorts: CustomStringConvertible {
  public var description: String { first == last ? "\(first)" : "\(first)-\(last)" }

  /// `80` or `80-90`. Numbers beyond 9 digits are not ports of any kind.
  init?(parsing text: Substring) {
    let ends = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard let low = Self.port(ends[0]) else { return nil }
    guard ends.count == 2 else {
      self.init(first: low, last: low)
      return
    }
    guard let high = Self.port(ends[1]) else { return nil }
    self.init(first: low, last: high)
  }

  private static func port(_ text: Substring) -> Int? {
    guard (1...9).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    return Int(text)
  }
}
