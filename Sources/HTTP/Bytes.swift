/// Comparisons on bytes that do not build strings.
nonisolated extension UnsafeBufferPointer<UInt8> {
  @inline(__always)
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    let other = text.utf8Start
    for position in 0..<count where self[position] != other[position] { return false }
    return true
  }

  /// - Parameter lowercase: must be lower-case ASCII.
  @inline(__always)
  func equalsIgnoringCase(_ lowercase: StaticString) -> Bool {
    guard count == lowercase.utf8CodeUnitCount else { return false }
    let other = lowercase.utf8Start
    for position in 0..<count where self[position].lowercasedASCII != other[position] { return false }
    return true
  }

  @inline(__always)
  func slice(_ range: Range<Int>) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(rebasing: self[range])
  }

  /// Without blanks and tabs at both ends.
  func trimmed() -> UnsafeBufferPointer<UInt8> {
    var range = 0..<count
    while let first = range.first, self[first].isBlank { range = first + 1..<range.upperBound }
    while let last = range.last, self[last].isBlank { range = range.lowerBound..<last }
    return slice(range)
  }
}

nonisolated extension UInt8 {
  @inline(__always)
  var lowercasedASCII: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }

  /// Space or tab.
  @inline(__always)
  var isBlank: Bool { self == 0x20 || self == 0x09 }

  /// `tchar` of RFC 9110 section 5.6.2.
  @inline(__always)
  var isTokenCharacter: Bool {
    // One bit per character below 128: digits and !#$%&'*+-. in the lower half, letters and ^_`|~ above.
    let low: UInt64 = 0x03FF_6CFA_0000_0000
    let high: UInt64 = 0x57FF_FFFF_C7FF_FFFE
    if self < 64 { return low &>> UInt64(self) & 1 != 0 }
    return self < 128 && high &>> UInt64(self &- 64) & 1 != 0
  }

  var hexadecimalValue: UInt8? {
    switch self {
    case 0x30...0x39: self &- 0x30
    case 0x41...0x46: self &- 0x37
    case 0x61...0x66: self &- 0x57
    default: nil
    }
  }
}
