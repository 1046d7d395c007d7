/// Text of files that others write in any encoding, and back, with every byte as it was.
///
/// What is valid UTF-8 is that text. Each byte that is no part of it, in practice a letter of Latin-1 in a comment, is
/// one scalar, U+10FF00 and the byte: they are of the private use area, and stand for a byte nowhere else. A file that
/// has such scalars itself has each of their bytes in this form.
nonisolated enum ByteText {
  private static let base: UInt32 = 0x10_FF00
  /// The first byte of the form in UTF-8 of all stand-ins, and of little else.
  private static let lead: UInt8 = 0xF4

  static func decode(_ bytes: [UInt8]) -> String {
    if !bytes.contains(lead), let text = String(validating: bytes, as: UTF8.self) { return text }
    var text = String.UnicodeScalarView()
    var rest = bytes[...]
    while let first = rest.first {
      let piece = rest.prefix(length(first))
      if let scalar = String(validating: piece, as: UTF8.self)?.unicodeScalars.first, byte(scalar) == nil {
        text.append(scalar)
        rest = rest.dropFirst(piece.count)
      } else if let standIn = Unicode.Scalar(base + UInt32(first)) {
        text.append(standIn)
        rest = rest.dropFirst()
      }
    }
    return String(text)
  }

  static func encode(_ text: String) -> [UInt8] {
    guard text.utf8.contains(lead) else { return Array(text.utf8) }
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      if let byte = byte(scalar) { bytes.append(byte) } else { bytes += UTF8.encode(scalar) ?? .init() }
    }
    return bytes
  }

  /// The byte that a scalar stands for. One of ASCII always is valid.
  private static func byte(_ scalar: Unicode.Scalar) -> UInt8? {
    scalar.value >= base + 0x80 ? UInt8(scalar.value - base) : nil
  }

  /// Of the scalar that a byte begins, in bytes; 1 for one that begins none.
  private static func length(_ first: UInt8) -> Int {
    switch first {
    case 0xC2...0xDF: 2
    case 0xE0...0xEF: 3
    case 0xF0...0xF4: 4
    default: 1
    }
  }
}
