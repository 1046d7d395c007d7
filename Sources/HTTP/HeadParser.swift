/// Parses the head of a request: the request line and the header fields (RFC 9112).
///
/// The parser is pure: it looks at the bytes it is shown, never past them, and records ranges
/// in its own tables; nothing is copied and, once the tables exist, nothing is allocated. It is
/// resumable: it judges a line when the line's end has arrived and remembers where it was, so
/// that any division of the input gives the result of the whole, and every byte is looked at a
/// bounded number of times however slowly it arrives.
///
/// It is strict where leniency lets two readers of one byte stream disagree about where a
/// request ends: lines end with CR LF; a bare CR or LF, a folded field, a blank before the
/// colon, NUL, two lengths, or a length beside a transfer coding are refused.
nonisolated struct HeadParser {
  enum Progress: Equatable {
    case needsMore
    case complete
    case failed(RequestFault)
  }

  /// A range of bytes from the start of the head; 16 KiB fit with room to spare.
  struct Slice {
    var start: UInt16 = 0
    var end: UInt16 = 0
    var range: Range<Int> { Int(start)..<Int(end) }
    var isEmpty: Bool { start == end }

    init() {}
    @inline(__always)
    init(_ start: Int, _ end: Int) {
      self.start = UInt16(truncatingIfNeeded: start)
      self.end = UInt16(truncatingIfNeeded: end)
    }
  }

  struct Field {
    var name: Slice
    var value: Slice
  }

  /// How the body's end is found.
  enum Framing: Equatable {
    case none
    case length(Int)
    case chunked
  }

  private(set) var method = Method.other
  private(set) var methodToken = Slice()
  /// Before the question mark; `*` for the server as a whole.
  private(set) var path = Slice()
  /// After the question mark; nil without one.
  private(set) var query: Slice?
  private(set) var isVersion10 = false
  private(set) var framing = Framing.none
  private(set) var expectsContinue = false
  private(set) var wantsClose = false
  private(set) var wantsKeepAlive = false
  private(set) var fieldCount = 0
  /// Bytes of the head, the empty line included; valid when complete.
  private(set) var length = 0

  private var lineStart = 0
  private var scanned = 0
  private var hasRequestLine = false
  private var hasHost = false

  /// Where `Limits.headerCount` fields fit.
  let fields: UnsafeMutablePointer<Field>

  init(fields: UnsafeMutablePointer<Field>) { self.fields = fields }

  /// Whether the request's first byte has arrived.
  var hasBegun: Bool { scanned > lineStart || hasRequestLine }

  /// Ready for another request.
  mutating func reset() { self = HeadParser(fields: fields) }

  /// Looks at all bytes of the head that have arrived so far, from its first one.
  mutating func advance(_ bytes: UnsafeBufferPointer<UInt8>) -> Progress {
    while true {
      var at = scanned
      while at < bytes.count, bytes[at] != 0x0A { at += 1 }
      guard at < bytes.count else {
        scanned = at
        return at >= Limits.headBytes
          ? .failed(hasRequestLine ? .headTooLarge : .targetTooLong) : .needsMore
      }
      scanned = at + 1
      guard at < Limits.headBytes else {
        return .failed(hasRequestLine ? .headTooLarge : .targetTooLong)
      }
      guard at > lineStart, bytes[at - 1] == 0x0D else { return .failed(.malformed) }
      let line = lineStart..<at - 1
      lineStart = at + 1

      if !hasRequestLine {
        // One empty line or more may stand before a request (RFC 9112 section 2.2).
        if line.isEmpty { continue }
        if let fault = parseRequestLine(bytes, line) { return .failed(fault) }
        hasRequestLine = true
      } else if line.isEmpty {
        length = at + 1
        // HTTP/1.1 demands exactly one Host (RFC 9112 section 3.2).
        return hasHost || isVersion10 ? .complete : .failed(.malformed)
      } else if let fault = parseField(bytes, line) {
        return .failed(fault)
      }
    }
  }

  // MARK: Request line

  private mutating func parseRequestLine(
    _ bytes: UnsafeBufferPointer<UInt8>, _ line: Range<Int>
  ) -> RequestFault? {
    var at = line.lowerBound
    while at < line.upperBound, bytes[at].isTokenCharacter { at += 1 }
    guard at > line.lowerBound, at < line.upperBound, bytes[at] == 0x20 else { return .malformed }
    methodToken = Slice(line.lowerBound, at)
    method = Method(bytes.slice(line.lowerBound..<at))

    at += 1
    let start = at
    // Visible ASCII; a fragment never leaves a client.
    while at < line.upperBound, bytes[at] &- 0x21 < 0x5E, bytes[at] != UInt8(ascii: "#") { at += 1 }
    guard at > start, at < line.upperBound, bytes[at] == 0x20 else { return .malformed }
    guard at - start <= Limits.targetBytes else { return .targetTooLong }
    guard splitTarget(bytes, start..<at) else { return .malformed }

    let version = bytes.slice(at + 1..<line.upperBound)
    if version.equals("HTTP/1.1") { return nil }
    if version.equals("HTTP/1.0") {
      isVersion10 = true
      return nil
    }
    let isOtherVersion =
      version.count == 8 && version.slice(0..<5).equals("HTTP/") && version[5] &- 0x30 < 10
      && version[6] == UInt8(ascii: ".") && version[7] &- 0x30 < 10
    return isOtherVersion ? .versionNotSupported : .malformed
  }

  /// Accepts a path, an absolute URL, whose authority is of no interest here, and `*`.
  private mutating func splitTarget(_ bytes: UnsafeBufferPointer<UInt8>, _ target: Range<Int>) -> Bool {
    var start = target.lowerBound
    if bytes[start] != UInt8(ascii: "/") {
      if target.count == 1, bytes[start] == UInt8(ascii: "*") {
        path = Slice(start, target.upperBound)
        return method == .options
      }
      guard target.count > 7, bytes.slice(start..<start + 7).equalsIgnoringCase("http://") else {
        return false
      }
      start += 7
      let authority = start
      while start < target.upperBound, bytes[start] != UInt8(ascii: "/") {
        if bytes[start] == UInt8(ascii: "?") { return false }
        start += 1
      }
      guard start > authority, start < target.upperBound else { return false }
    }
    var at = start
    while at < target.upperBound, bytes[at] != UInt8(ascii: "?") { at += 1 }
    path = Slice(start, at)
    if at < target.upperBound { query = Slice(at + 1, target.upperBound) }
    return true
  }

  // MARK: Fields

  private mutating func parseField(
    _ bytes: UnsafeBufferPointer<UInt8>, _ line: Range<Int>
  ) -> RequestFault? {
    var at = line.lowerBound
    while at < line.upperBound, bytes[at].isTokenCharacter { at += 1 }
    guard at > line.lowerBound, at < line.upperBound, bytes[at] == UInt8(ascii: ":") else {
      return .malformed
    }
    guard fieldCount < Limits.headerCount else { return .headTooLarge }
    let name = line.lowerBound..<at
    var start = at + 1
    var end = line.upperBound
    while start < end, bytes[start].isBlank { start += 1 }
    while end > start, bytes[end - 1].isBlank { end -= 1 }
    at = start
    while at < end {
      let byte = bytes[at]
      guard byte >= 0x20 && byte != 0x7F || byte == 0x09 else { return .malformed }
      at += 1
    }
    (fields + fieldCount).initialize(
      to: Field(name: Slice(name.lowerBound, name.upperBound), value: Slice(start, end)))
    fieldCount += 1
    return noteMeaning(bytes.slice(name), bytes.slice(start..<end))
  }

  /// Takes note of the few fields that say something about the message itself.
  @inline(__always)
  private mutating func noteMeaning(
    _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>
  ) -> RequestFault? {
    switch name.count {
    case 4 where name.equalsIgnoringCase("host"):
      guard !hasHost else { return .malformed }
      hasHost = true
    case 6 where name.equalsIgnoringCase("expect"):
      guard value.equalsIgnoringCase("100-continue") else { return .expectationFailed }
      expectsContinue = !isVersion10
    case 10 where name.equalsIgnoringCase("connection"):
      noteConnection(value)
    case 14 where name.equalsIgnoringCase("content-length"):
      guard framing == .none, let length = Self.length(value) else { return .malformed }
      framing = .length(length)
    case 17 where name.equalsIgnoringCase("transfer-encoding"):
      guard framing == .none, !isVersion10 else { return .malformed }
      guard value.equalsIgnoringCase("chunked") else { return .codingNotSupported }
      framing = .chunked
    default: break
    }
    return nil
  }

  private mutating func noteConnection(_ value: UnsafeBufferPointer<UInt8>) {
    var start = 0
    for at in 0...value.count where at == value.count || value[at] == UInt8(ascii: ",") {
      let option = value.slice(start..<at).trimmed()
      if option.equalsIgnoringCase("close") { wantsClose = true }
      if option.equalsIgnoringCase("keep-alive") { wantsKeepAlive = true }
      start = at + 1
    }
  }

  private static func length(_ value: UnsafeBufferPointer<UInt8>) -> Int? {
    // Eighteen digits always fit.
    guard !value.isEmpty, value.count <= 18 else { return nil }
    var length = 0
    for byte in value {
      guard byte &- 0x30 < 10 else { return nil }
      length = length * 10 + Int(byte &- 0x30)
    }
    return length
  }

  /// Whether the connection can be used for another request (RFC 9112 section 9.3).
  var keepsAlive: Bool { !wantsClose && (!isVersion10 || wantsKeepAlive) }
}
