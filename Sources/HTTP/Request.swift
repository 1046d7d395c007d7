public import JSON

/// A request as handlers see it.
///
/// While the handler runs, head and path are read in place, out of the connection's buffer. A
/// request that outlives the call (a deferred answer, a body that is still to come) is detached:
/// it then owns a copy of its head. All of this is behind the accessors.
public final class Request {
  var head = RequestHead()
  private var bytes: UnsafePointer<UInt8>
  private var owned: RawMemory?
  private(set) var parameters: [(name: String, value: String)] = []
  var parameterFailure: String?

  /// The body as it came, possibly compressed.
  public internal(set) var body: [UInt8] = []
  /// The body is beyond `Limits.bodyBytes` and was not kept.
  public internal(set) var isBodyTooLarge = false
  /// For the application: what its authorisation found out about the caller.
  public var context: AnyObject?
  /// Set when the handler asked for time; see `deferAnswer`.
  private(set) var responder: Responder?

  private nonisolated(unsafe) static let nothing = UnsafePointer(
    UnsafeMutablePointer<UInt8>.allocate(capacity: 1))

  init() { bytes = Self.nothing }

  /// Takes the place of the request before it on the same connection or another.
  func reset(_ head: UnsafePointer<UInt8>) {
    bytes = head
    if owned != nil { owned = nil }
    if !parameters.isEmpty { parameters = [] }
    parameterFailure = nil
    if !body.isEmpty { body = [] }
    isBodyTooLarge = false
    context = nil
    responder = nil
  }

  /// Makes the request independent of the connection's buffer.
  func detach() {
    guard owned == nil else { return }
    let copy = RawMemory(byteCount: head.byteCount)
    copy.base.copyMemory(from: bytes, byteCount: head.byteCount)
    owned = copy
    bytes = UnsafePointer(copy.base.assumingMemoryBound(to: UInt8.self))
  }

  // MARK: Head

  public var method: Method { head.method }
  /// The method as it was sent.
  public var methodText: String { text(head.methodSpan) }
  /// As it was sent, without the query.
  public var path: String { text(head.path) }

  /// A `:name` of the route's pattern, percent-decoded.
  public func parameter(_ name: String) -> String? {
    parameters.first { $0.name == name }?.value
  }

  /// The first header field of that name, whatever its case.
  public func header(_ name: String) -> String? {
    var name = name
    return name.withUTF8 { wanted in
      for field in head.fields where Int(field.name.count) == wanted.count {
        let start = bytes + Int(field.name.start)
        var isEqual = true
        for position in 0..<wanted.count where lowercased(start[position]) != lowercased(wanted[position]) {
          isEqual = false
          break
        }
        if isEqual { return text(field.value) }
      }
      return nil
    }
  }

  /// All values of a query item of exactly that name, in order; an item without `=` has the
  /// empty text.
  public func query(_ name: String) -> [String] {
    guard head.query.count > 0 else { return [] }
    var values: [String] = []
    let whole = UnsafeBufferPointer(start: bytes + Int(head.query.start), count: Int(head.query.count))
    for item in whole.split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: true) {
      let parts = item.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard let first = parts.first, PercentCoding.decodeForm(first) == name else { continue }
      values.append(parts.count == 2 ? PercentCoding.decodeForm(parts[1]) : "")
    }
    return values
  }

  // MARK: Body

  /// The body as the API understands it: JSON or a form, everything else is the empty object
  /// (http-api 2.4).
  public func parsedBody() throws(BodyError) -> JSON {
    if isBodyTooLarge { throw BodyError("request entity too large") }
    return try BodyParser.parse(
      body, contentType: header("Content-Type"), contentEncoding: header("Content-Encoding"))
  }

  // MARK: Later answers

  /// Asks for time: the handler returns nil and answers through the responder.
  public func deferAnswer() -> Responder {
    if let responder { return responder }
    detach()
    let new = Responder()
    responder = new
    return new
  }

  // MARK: Routing

  /// The path's bytes.
  var pathBytes: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: bytes + Int(head.path.start), count: Int(head.path.count))
  }

  func setParameters(_ values: [(name: String, value: String)]) { parameters = values }

  private func text(_ span: Span) -> String {
    String(
      decoding: UnsafeBufferPointer(start: bytes + Int(span.start), count: Int(span.count)), as: UTF8.self)
  }
}

/// Answers a request some time after its handler returned.
public final class Responder {
  private var deliver: ((Response) -> Void)?
  private var early: Response?
  private var cancelActions: [() -> Void] = []
  /// The client has gone; an answer will not be read.
  public private(set) var isCancelled = false

  init() {}

  /// The first answer counts.
  public func respond(_ response: Response) {
    if let deliver = deliver.take() {
      deliver(response)
    } else if early == nil {
      early = response
    }
    cancelActions = []
  }

  /// `action` runs when the client goes away before the answer.
  public func onCancel(_ action: @escaping () -> Void) {
    if isCancelled { action() } else { cancelActions.append(action) }
  }

  func connect(_ deliver: @escaping (Response) -> Void) {
    if let early = early.take() { deliver(early) } else { self.deliver = deliver }
  }

  func cancel() {
    guard deliver != nil else { return }
    isCancelled = true
    deliver = nil
    let actions = cancelActions
    cancelActions = []
    for action in actions { action() }
  }
}

/// Percent-coding (RFC 3986, section 2.1).
nonisolated enum PercentCoding {
  /// nil when a `%` is not followed by two hexadecimal digits, or the result is not UTF-8.
  static func decode(_ bytes: some Sequence<UInt8>, plusIsBlank: Bool = false) -> String? {
    var output: [UInt8] = []
    var iterator = bytes.makeIterator()
    while let byte = iterator.next() {
      if byte == UInt8(ascii: "%") {
        guard let high = iterator.next().flatMap(digit), let low = iterator.next().flatMap(digit) else {
          return nil
        }
        output.append(high << 4 | low)
      } else {
        output.append(plusIsBlank && byte == UInt8(ascii: "+") ? blank : byte)
      }
    }
    return String(validating: output, as: UTF8.self)
  }

  /// A form's name or value; what cannot be decoded stays as it is.
  static func decodeForm(_ bytes: some Collection<UInt8>) -> String {
    decode(bytes, plusIsBlank: true) ?? String(decoding: bytes, as: UTF8.self)
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
