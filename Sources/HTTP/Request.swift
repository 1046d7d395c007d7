public import JSON

/// A request as a handler sees it.
///
/// While the handler runs, the head is read where it lies in the server's buffer. A request
/// that is still referenced afterwards gets its own copy of the head, so it may be kept; one
/// that is not is used again for the next request, so a hot `GET` allocates nothing.
public final class Request {
  public internal(set) var method = Method.get
  /// Bytes of the body as they came, still compressed if they were. Empty when the body was
  /// over the limit, and on routes that do not read it.
  public internal(set) var body: [UInt8] = []
  /// For the handlers' own use, such as what authentication found out.
  public var context: AnyObject?

  var parser: HeadParser
  var base: UnsafePointer<UInt8>?
  /// The head's own copy, when the request outlived its handler.
  private var ownHead: RawMemory<UInt8>?
  var bodyIsTooLarge = false
  /// Position among all routes of the pipeline; -1 when none answers.
  var routeNumber = -1
  var parameters: [Parameter] = []
  private var parsed: Result<JSON, BodyError>?
  /// Set when the handler asked for time.
  var responder: Responder?

  struct Parameter {
    var name: String
    var range: Range<Int>
  }

  private let fields = RawMemory<HeadParser.Field>(capacity: Limits.headerCount)

  init() { parser = HeadParser(fields: fields.base) }

  /// Ready for the next request.
  func reset() {
    parser.reset()
    method = .get
    base = nil
    if ownHead != nil { ownHead = nil }
    if !body.isEmpty { body = [] }
    if context != nil { context = nil }
    bodyIsTooLarge = false
    routeNumber = -1
    if !parameters.isEmpty { parameters.removeAll(keepingCapacity: true) }
    if parsed != nil { parsed = nil }
    if responder != nil { responder = nil }
  }

  /// Copies the head out of the buffer that is about to be used for something else.
  func detach() {
    guard ownHead == nil, let base, parser.length > 0 else { return }
    let copy = RawMemory<UInt8>(capacity: parser.length)
    copy.base.initialize(from: base, count: parser.length)
    ownHead = copy
    self.base = UnsafePointer(copy.base)
  }

  func bytes(_ slice: HeadParser.Slice) -> UnsafeBufferPointer<UInt8> {
    guard let base else { return UnsafeBufferPointer(start: nil, count: 0) }
    return UnsafeBufferPointer(start: base + Int(slice.start), count: slice.range.count)
  }

  /// Asks for time: the handler returns nil, and somebody answers through the responder later.
  /// The one who is going to must keep it; when nobody does any more, 503 is answered.
  public func deferAnswer() -> Responder {
    let responder = Responder()
    self.responder = responder
    return responder
  }

  // MARK: What handlers ask

  /// The method as it was sent.
  public var methodText: String { String(decoding: bytes(parser.methodToken), as: UTF8.self) }

  /// The path as it was sent, without the query.
  public var path: String { String(decoding: bytes(parser.path), as: UTF8.self) }

  /// The query as it was sent, without the question mark; nil without one.
  public var queryString: String? { parser.query.map { String(decoding: bytes($0), as: UTF8.self) } }

  /// The query where it lies: valid until the handler returns. nil without a question mark.
  public var queryBytes: UnsafeBufferPointer<UInt8>? { parser.query.map(bytes) }

  /// A parameter of the route's pattern, percent-decoded.
  public func parameter(_ name: String) -> String? {
    guard let base, let parameter = parameters.first(where: { $0.name == name }) else { return nil }
    let raw = UnsafeBufferPointer(start: base + parameter.range.lowerBound, count: parameter.range.count)
    return PercentCoding.decode(raw, plusIsBlank: false)
  }

  /// Values of a query item, decoded, in order; the name is compared exactly.
  public func query(_ name: String) -> [String] {
    guard let query = parser.query else { return [] }
    return PercentCoding.values(of: name, in: bytes(query))
  }

  /// The first field of that name, in any case.
  public func header(_ name: String) -> String? {
    guard let value = headerBytes(name) else { return nil }
    return String(decoding: value, as: UTF8.self)
  }

  /// The first field of that name, in any case, where it lies: valid until the handler returns.
  public func headerBytes(_ name: String) -> UnsafeBufferPointer<UInt8>? {
    var name = name
    return name.withUTF8 { wanted in
      for position in 0..<parser.fieldCount {
        let field = parser.fields[position]
        guard field.name.range.count == wanted.count else { continue }
        let have = bytes(field.name)
        var isEqual = true
        for at in 0..<wanted.count where have[at].lowercasedASCII != wanted[at].lowercasedASCII {
          isEqual = false
          break
        }
        if isEqual { return bytes(field.value) }
      }
      return nil
    }
  }

  /// Whether the request came with a body, if only an empty one.
  public var hasBody: Bool { parser.framing != .none }

  /// What the body says, by its content type (specification, http-api 2.4). Parsed once.
  public func parsedBody() throws(BodyError) -> JSON {
    if let parsed { return try parsed.get() }
    let result: Result<JSON, BodyError>
    do {
      guard hasBody else { return [:] }
      result = .success(
        try BodyParser.parse(
          contentType: header("content-type"), contentEncoding: header("content-encoding"), bytes: body,
          isTooLarge: bodyIsTooLarge))
    } catch {
      result = .failure(error)
    }
    parsed = result
    return try result.get()
  }
}
