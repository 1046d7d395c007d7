/// Percent-encoding of URLs (RFC 3986 section 2.1).
nonisolated enum PercentCoding {
  /// nil when an escape is incomplete or the bytes are not UTF-8.
  static func decode(_ bytes: UnsafeBufferPointer<UInt8>, plusIsBlank: Bool) -> String? {
    if isPlain(bytes) { return String(validating: bytes, as: UTF8.self) }
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
      var byte = bytes[at]
      if byte == UInt8(ascii: "%") {
        guard at + 2 < bytes.count, let high = bytes[at + 1].hexadecimalValue,
          let low = bytes[at + 2].hexadecimalValue
        else { return nil }
        byte = high << 4 | low
        at += 2
      } else if plusIsBlank, byte == UInt8(ascii: "+") {
        byte = 0x20
      }
      output.append(byte)
      at += 1
    }
    return String(validating: output, as: UTF8.self)
  }

  /// Whether there is nothing to decode.
  private static func isPlain(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    for byte in bytes where byte == UInt8(ascii: "%") || byte == UInt8(ascii: "+") { return false }
    return true
  }

  /// Like `decode`, but what cannot be decoded stays as it is.
  static func decodeLeniently(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
    if let text = decode(bytes, plusIsBlank: true) { return text }
    return String(decoding: bytes.map { $0 == UInt8(ascii: "+") ? 0x20 : $0 }, as: UTF8.self)
  }

  /// The values that belong to `name` in a query or form.
  static func values(of name: String, in query: UnsafeBufferPointer<UInt8>) -> [String] {
    var values: [String] = []
    var name = name
    name.withUTF8 { wanted in
      forEachPair(query) { key, value in
        let isWanted =
          isPlain(key) ? key.elementsEqual(wanted) : decodeLeniently(key).utf8.elementsEqual(wanted)
        if isWanted { values.append(decodeLeniently(value)) }
      }
    }
    return values
  }

  /// Splits at `&` and the first `=`; a pair without one has an empty value.
  static func forEachPair(
    _ query: UnsafeBufferPointer<UInt8>,
    _ body: (UnsafeBufferPointer<UInt8>, UnsafeBufferPointer<UInt8>) -> Void
  ) {
    var start = 0
    for at in 0...query.count where at == query.count || query[at] == UInt8(ascii: "&") {
      let pair = query.slice(start..<at)
      start = at + 1
      guard !pair.isEmpty else { continue }
      let equals = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.count
      body(pair.slice(0..<equals), pair.slice(min(equals + 1, pair.count)..<pair.count))
    }
  }
}
