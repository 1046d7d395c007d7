/// Why a request is refused before any handler sees it. The connection closes after the answer.
public nonisolated enum RequestFailure: Error, Sendable, Hashable {
  case badRequest
  case timeout
  case targetTooLong
  case headTooLarge
  case versionNotSupported
  case transferCodingNotSupported
  case overloaded

  var status: Int {
    switch self {
    case .badRequest: 400
    case .timeout: 408
    case .targetTooLong: 414
    case .headTooLarge: 431
    case .transferCodingNotSupported: 501
    case .overloaded: 503
    case .versionNotSupported: 505
    }
  }
}

/// Where a part of the head lies, in bytes from the head's first.
nonisolated struct Span: Sendable, Hashable {
  var start: UInt16 = 0
  var count: UInt16 = 0

  init(_ start: Int, _ end: Int) {
    self.start = UInt16(start)
    count = UInt16(end - start)
  }

  init() {}
}

/// A parsed head: spans into the bytes it was parsed from. Reused, so that its list of fields
/// is allocated once.
nonisolated struct RequestHead: Sendable {
  var method = Method.get
  var methodSpan = Span()
  /// Path without the query.
  var path = Span()
  /// Without the question mark; empty when there is none.
  var query = Span()
  var fields: ContiguousArray<(name: Span, value: Span)> = []
  /// 0 or 1.
  var minorVersion = 1
  var contentLength: Int?
  var isChunked = false
  var keepsAlive = true
  var expectsContinue = false
  /// Of the whole head, its empty line included.
  var byteCount = 0
}

/// Parses a request's head (RFC 9112), incrementally and strictly.
///
/// Bytes are looked at once: `scanned` says how far the search for the head's end has come, and
/// only a complete head is taken apart. Nothing behind the given count is ever read. What other
/// servers forgive and thereby open to request smuggling is refused: bare CR or LF, blanks
/// before a colon, folded lines, two lengths, a length beside a transfer coding.
nonisolated struct HeadParser {
  enum Outcome {
    case incomplete
    case complete
    case failure(RequestFailure)
  }

  private var scanned = 0
  private var lineStart = 0
  /// Empty lines before the request line, which are skipped (RFC 9112, section 2.2).
  private var start = 0

  /// - Parameter head: filled when the outcome is `complete`; its spans count from `bytes`.
  mutating func parse(_ bytes: UnsafePointer<UInt8>, _ count: Int, into head: inout RequestHead) -> Outcome {
    while scanned < count {
      guard bytes[scanned] == lineFeed else {
        scanned += 1
        continue
      }
      guard scanned > lineStart, bytes[scanned - 1] == carriageReturn else { return .failure(.badRequest) }
      let isEmpty = scanned - 1 == lineStart
      scanned += 1
      if isEmpty {
        if lineStart == start {
          // At most a handful: more are noise, not a client's slip.
          guard scanned <= 8 else { return .failure(.badRequest) }
          start = scanned
          lineStart = scanned
          continue
        }
        guard scanned <= Limits.headBytes else { return .failure(.headTooLarge) }
        defer { self = HeadParser() }
        return take(bytes, end: scanned, into: &head)
      }
      lineStart = scanned
    }
    if count - start > Limits.headBytes {
      return .failure(lineStart == start ? .targetTooLong : .headTooLarge)
    }
    return .incomplete
  }

  private func take(
    _ bytes: UnsafePointer<UInt8>, end: Int, into head: inout RequestHead
  ) -> Outcome {
    head.fields.removeAll(keepingCapacity: true)
    head.contentLength = nil
    head.isChunked = false
    head.expectsContinue = false
    head.byteCount = end
    var at = start
    if let failure = takeRequestLine(bytes, &at, &head) { return .failure(failure) }
    var codings = 0
    var hasHost = false
    head.keepsAlive = head.minorVersion == 1
    while at < end - 2 {
      guard head.fields.count < Limits.headerCount else { return .failure(.headTooLarge) }
      let nameStart = at
      while isTokenByte(bytes[at]) { at += 1 }
      let nameEnd = at
      guard nameEnd > nameStart, bytes[at] == UInt8(ascii: ":") else { return .failure(.badRequest) }
      at += 1
      while bytes[at] == blank || bytes[at] == tab { at += 1 }
      let valueStart = at
      while bytes[at] != carriageReturn {
        guard bytes[at] >= 0x20 && bytes[at] != 0x7F || bytes[at] == tab else { return .failure(.badRequest) }
        at += 1
      }
      var valueEnd = at
      guard bytes[at + 1] == lineFeed else { return .failure(.badRequest) }
      at += 2
      while valueEnd > valueStart, bytes[valueEnd - 1] == blank || bytes[valueEnd - 1] == tab {
        valueEnd -= 1
      }
      head.fields.append((Span(nameStart, nameEnd), Span(valueStart, valueEnd)))

      let value = UnsafeBufferPointer(start: bytes + valueStart, count: valueEnd - valueStart)
      let name = UnsafeBufferPointer(start: bytes + nameStart, count: nameEnd - nameStart)
      switch nameEnd - nameStart {
      case 4 where name.equalsIgnoringCase("host"):
        guard !hasHost else { return .failure(.badRequest) }
        hasHost = true
      case 6 where name.equalsIgnoringCase("expect"):
        head.expectsContinue = value.equalsIgnoringCase("100-continue")
      case 10 where name.equalsIgnoringCase("connection"):
        if value.containsToken("close") { head.keepsAlive = false }
        if head.minorVersion == 0, value.containsToken("keep-alive") { head.keepsAlive = true }
      case 14 where name.equalsIgnoringCase("content-length"):
        guard head.contentLength == nil, let length = decimal(value) else { return .failure(.badRequest) }
        head.contentLength = length
      case 17 where name.equalsIgnoringCase("transfer-encoding"):
        codings += 1
        guard value.equalsIgnoringCase("chunked") else { return .failure(.transferCodingNotSupported) }
        head.isChunked = true
      default: break
      }
    }
    guard codings <= 1, !(head.isChunked && head.contentLength != nil) else { return .failure(.badRequest) }
    guard !head.isChunked || head.minorVersion == 1 else { return .failure(.badRequest) }
    guard hasHost || head.minorVersion == 0 else { return .failure(.badRequest) }
    return .complete
  }

  private func takeRequestLine(
    _ bytes: UnsafePointer<UInt8>, _ at: inout Int, _ head: inout RequestHead
  ) -> RequestFailure? {
    let methodStart = at
    while isTokenByte(bytes[at]) { at += 1 }
    guard at > methodStart, bytes[at] == blank else { return .badRequest }
    head.method = Method.of(bytes + methodStart, at - methodStart)
    head.methodSpan = Span(methodStart, at)
    at += 1

    let targetStart = at
    var question = -1
    while bytes[at] > 0x20, bytes[at] != 0x7F {
      if bytes[at] == UInt8(ascii: "?"), question < 0 { question = at }
      at += 1
    }
    guard at > targetStart, bytes[at] == blank else { return .badRequest }
    guard at - targetStart <= Limits.targetBytes else { return .targetTooLong }
    var pathStart = targetStart
    if bytes[targetStart] != UInt8(ascii: "/") {
      // `OPTIONS *`, or the absolute form that a proxy's client sends.
      if at - targetStart == 1, bytes[targetStart] == UInt8(ascii: "*") {
      } else if let path = pathOfAbsoluteForm(bytes, targetStart, at) {
        pathStart = path
      } else {
        return .badRequest
      }
    }
    head.path = Span(pathStart, question < 0 ? at : max(question, pathStart))
    head.query = question < 0 ? Span(at, at) : Span(question + 1, at)
    at += 1

    let version: StaticString = "HTTP/1."
    for position in 0..<version.utf8CodeUnitCount {
      guard bytes[at + position] == version.utf8Start[position] else {
        return position < 5 ? .badRequest : .versionNotSupported
      }
    }
    at += version.utf8CodeUnitCount
    switch bytes[at] {
    case UInt8(ascii: "1"): head.minorVersion = 1
    case UInt8(ascii: "0"): head.minorVersion = 0
    default: return .versionNotSupported
    }
    guard bytes[at + 1] == carriageReturn, bytes[at + 2] == lineFeed else { return .badRequest }
    at += 3
    return nil
  }

  private func pathOfAbsoluteForm(_ bytes: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int? {
    let scheme: StaticString = "http://"
    guard end - start > scheme.utf8CodeUnitCount else { return nil }
    let prefix = UnsafeBufferPointer(start: bytes + start, count: scheme.utf8CodeUnitCount)
    guard prefix.equalsIgnoringCase(scheme) else { return nil }
    var at = start + scheme.utf8CodeUnitCount
    while at < end, bytes[at] != UInt8(ascii: "/") { at += 1 }
    return at < end ? at : nil
  }

  /// Digits only; nil when the number does not fit.
  private func decimal(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
    guard !text.isEmpty, text.count <= 18 else { return nil }
    var value = 0
    for byte in text {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      value = value * 10 + Int(byte - UInt8(ascii: "0"))
    }
    return value
  }
}

nonisolated let carriageReturn = UInt8(ascii: "\r")
nonisolated let lineFeed = UInt8(ascii: "\n")
nonisolated let blank = UInt8(ascii: " ")
nonisolated let tab = UInt8(ascii: "\t")

/// RFC 9110, section 5.6.2.
@inline(__always)
nonisolated func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"):
    true
  case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
    UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
    UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
    true
  default: false
  }
}

/// ASCII letters to lower case, everything else as it is.
@inline(__always)
nonisolated func lowercased(_ byte: UInt8) -> UInt8 {
  byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
}

nonisolated extension UnsafeBufferPointer<UInt8> {
  /// - Parameter text: in lower case.
  func equalsIgnoringCase(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for position in 0..<count where lowercased(self[position]) != text.utf8Start[position] { return false }
    return true
  }

  /// Whether a comma-separated list has the token; in lower case.
  func containsToken(_ token: StaticString) -> Bool {
    var start = 0
    for position in 0...count where position == count || self[position] == UInt8(ascii: ",") {
      var first = start
      var last = position
      while first < last, self[first] == blank || self[first] == tab { first += 1 }
      while last > first, self[last - 1] == blank || self[last - 1] == tab { last -= 1 }
      if UnsafeBufferPointer(rebasing: self[first..<last]).equalsIgnoringCase(token) { return true }
      start = position + 1
    }
    return false
  }
}
