/// The two messages of a one-shot query of multicast DNS (RFC 6762 section 5.1, RFC 1035 section 4.1).
nonisolated enum MulticastMessage {
  private static let addressType: UInt16 = 1
  private static let address6Type: UInt16 = 28
  private static let internet: UInt16 = 1
  private static let labelLimit = 63
  private static let nameLimit = 253

  /// Asks for the IPv4 and IPv6 addresses of a name; nil when it is no name of DNS.
  static func query(_ name: String, id: UInt16) -> [UInt8]? {
    var encoded: [UInt8] = []
    let labels = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard name.utf8.count <= nameLimit, labels.allSatisfy({ !$0.isEmpty && $0.count <= labelLimit }) else {
      return nil
    }
    for label in labels { encoded += [UInt8(label.count)] + label }
    encoded.append(0)
    var message: [UInt8] = []
    for word in [id, 0, 2, 0, 0, 0] { append(word, to: &message) }
    for type in [addressType, address6Type] {
      message += encoded
      append(type, to: &message)
      append(internet, to: &message)
    }
    return message
  }

  /// Addresses that an answer gives for the name, IPv4 first, those of IPv6 that count on one link alone left
  /// out; none when it answers another question, or is damaged.
  static func addresses(in message: [UInt8], for name: String, id: UInt16) -> [[UInt8]] {
    var reader = Reader(bytes: message)
    guard reader.word() == id, let flags = reader.word(), flags & 0x8000 != 0, flags & 0x000F == 0,
      let questions = reader.word(), let answers = reader.word(), let others = reader.word(),
      let extras = reader.word()
    else { return [] }
    for _ in 0..<questions {
      guard reader.name() != nil, reader.word() != nil, reader.word() != nil else { return [] }
    }
    let wanted = name.lowercased()
    var found: [[UInt8]] = []
    for _ in 0..<(Int(answers) + Int(others) + Int(extras)) {
      guard let owner = reader.name(), let type = reader.word(), let scope = reader.word(),
        reader.word() != nil, reader.word() != nil, let length = reader.word(),
        let data = reader.take(Int(length))
      else { break }
      // The highest bit of the class tells caches to forget older records.
      guard owner == wanted, scope & 0x7FFF == internet else { continue }
      if type == addressType, data.count == 4 { found.append(data) }
      if type == address6Type, data.count == 16, !(data[0] == 0xFE && data[1] & 0xC0 == 0x80) {
        found.append(data)
      }
    }
    return found.filter { $0.count == 4 } + found.filter { $0.count == 16 }
  }

  private static func append(_ word: UInt16, to bytes: inout [UInt8]) {
    bytes.append(UInt8(word >> 8))
    bytes.append(UInt8(word & 0xFF))
  }

  private struct Reader {
    let bytes: [UInt8]
    var position = 0

    mutating func word() -> UInt16? {
      guard let pair = take(2) else { return nil }
      return UInt16(pair[0]) << 8 | UInt16(pair[1])
    }

    mutating func take(_ count: Int) -> [UInt8]? {
      guard position + count <= bytes.count else { return nil }
      defer { position += count }
      return Array(bytes[position..<position + count])
    }

    /// Lower case, without the last dot. A pointer leads backwards, so that no message is without end.
    mutating func name() -> String? {
      var labels: [String] = []
      var at = position
      var end: Int?
      var total = 0
      while at < bytes.count {
        let length = Int(bytes[at])
        switch length {
        case 0:
          position = end ?? at + 1
          return labels.joined(separator: ".").lowercased()
        case 0xC0...:
          guard at + 1 < bytes.count else { return nil }
          let target = (length & 0x3F) << 8 | Int(bytes[at + 1])
          guard target < at else { return nil }
          end = end ?? at + 2
          at = target
        case 1...labelLimit:
          total += length + 1
          guard at + 1 + length <= bytes.count, total <= nameLimit + 2 else { return nil }
          labels.append(String(decoding: bytes[at + 1..<at + 1 + length], as: UTF8.self))
          at += 1 + length
        default: return nil
        }
      }
      return nil
    }
  }
}
