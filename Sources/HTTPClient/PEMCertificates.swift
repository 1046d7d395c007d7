import CCurl

/// The certificates of a PEM text (RFC 7468).
public nonisolated struct PEMCertificates: Sendable, Hashable {
  /// Those that can be read, each with its markers, without anything else.
  public private(set) var text: [UInt8] = []
  /// Certificates in `text`.
  public private(set) var count = 0
  /// Blocks that are marked as certificates and are none.
  public private(set) var unreadable = 0

  private static let begin = "-----BEGIN CERTIFICATE-----"
  private static let end = "-----END CERTIFICATE-----"
  private static let lineLength = 64

  public init(_ text: String) {
    var letters: [UInt8]?
    let begin = Self.withoutBlanks(Self.begin.utf8)
    let end = Self.withoutBlanks(Self.end.utf8)
    for line in text.utf8.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }) {
      let line = Self.withoutBlanks(line)
      if line == begin {
        // A block that was left open must not swallow the one after it.
        if letters != nil { unreadable += 1 }
        letters = []
      } else if line == end {
        if let letters { add(letters) }
        letters = nil
      } else {
        letters?.append(contentsOf: line)
      }
    }
    if letters != nil { unreadable += 1 }
  }

  private static func withoutBlanks(_ line: some Sequence<UInt8>) -> [UInt8] {
    line.filter { $0 != 0x20 && $0 != 0x09 }
  }

  private mutating func add(_ letters: [UInt8]) {
    guard let bytes = Base64.decode(letters), ccurl_reads_certificate(bytes, bytes.count) else {
      unreadable += 1
      return
    }
    count += 1
    let letters = Array(Base64.encode(bytes).utf8)
    text += Self.begin.utf8
    for at in stride(from: 0, to: letters.count, by: Self.lineLength) {
      text.append(0x0A)
      text += letters[at..<min(at + Self.lineLength, letters.count)]
    }
    text += "\n\(Self.end)\n".utf8
  }
}
