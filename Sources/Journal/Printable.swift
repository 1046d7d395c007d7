import CSystemd

/// What may be shown as text: valid UTF-8 without control characters other than tab and line feed.
nonisolated enum Printable {
  /// Bytes of the character at `text`; 0 when it is invalid or a control character.
  static func length(_ text: UnsafePointer<UInt8>, _ available: Int) -> Int {
    let first = text[0]
    if first < 0x80 {
      return first >= 0x20 && first != 0x7f || first == 0x09 || first == 0x0a ? 1 : 0
    }
    let length: Int
    var scalar: UInt32
    switch first {
    case 0xc2...0xdf: (length, scalar) = (2, UInt32(first & 0x1f))
    case 0xe0...0xef: (length, scalar) = (3, UInt32(first & 0x0f))
    case 0xf0...0xf4: (length, scalar) = (4, UInt32(first & 0x07))
    default: return 0
    }
    guard available >= length else { return 0 }
    for index in 1..<length {
      guard text[index] & 0xc0 == 0x80 else { return 0 }
      scalar = scalar << 6 | UInt32(text[index] & 0x3f)
    }
    switch scalar {
    case 0...0x9f, 0xd800...0xdfff, 0xfdd0...0xfdef, 0x110000...: return 0
    case 0xa0...0x7ff: return length == 2 ? length : 0
    case 0x800...0xffff: return length == 3 && scalar & 0xfffe != 0xfffe ? length : 0
    default: return scalar & 0xfffe != 0xfffe ? length : 0
    }
  }

  static func isText(_ text: UnsafePointer<UInt8>, _ count: Int) -> Bool {
    var position = 0
    while true {
      position += csystemd_printable_prefix(text + position, count - position)
      guard position < count else { return true }
      let length = length(text + position, count - position)
      guard length > 0 else { return false }
      position += length
    }
  }
}
