public import JSON

/// An answer.
public struct Response {
  enum Content {
    case plain(Plain)
    case prepared(PreparedResponse)
    case stream(Plain, (BodyWriter) async -> Void)
  }

  struct Plain {
    var status: Int
    var contentType: String?
    var headers: [(name: String, value: String)] = []
    var body: [UInt8] = []
  }

  let content: Content

  /// - Parameter headers: additional fields; length, connection and date are the server's.
  public init(
    _ status: Int, contentType: String?, body: [UInt8] = [],
    headers: [(name: String, value: String)] = []
  ) {
    content = .plain(Plain(status: status, contentType: contentType, headers: headers, body: body))
  }

  private init(content: Content) { self.content = content }

  /// `text/plain; charset=utf-8`
  public static func text(_ text: String, status: Int = 200) -> Response {
    Response(status, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
  }

  /// `text/html; charset=utf-8`
  public static func html(_ text: String, status: Int = 200) -> Response {
    Response(status, contentType: "text/html; charset=utf-8", body: Array(text.utf8))
  }

  /// `application/json; charset=utf-8`, compact.
  public static func json(_ value: JSON, status: Int = 200) -> Response {
    Response(status, contentType: "application/json; charset=utf-8", body: value.bytes())
  }

  /// No body and no content type.
  public static func empty(_ status: Int) -> Response { Response(status, contentType: nil) }

  /// An answer that was serialised before.
  public static func prepared(_ response: PreparedResponse) -> Response {
    Response(content: .prepared(response))
  }

  /// An answer whose body is written as it arises. The head leaves with the first bytes. The
  /// producer is cancelled when the client goes away.
  public static func stream(
    status: Int = 200, contentType: String? = nil, headers: [(name: String, value: String)] = [],
    _ producer: @escaping (BodyWriter) async -> Void
  ) -> Response {
    Response(
      content: .stream(Plain(status: status, contentType: contentType, headers: headers), producer))
  }

  var status: Int {
    switch content {
    case .plain(let plain), .stream(let plain, _): plain.status
    case .prepared(let prepared): prepared.status
    }
  }
}

/// A whole answer, head and body, serialised once and sent any number of times without
/// allocating; only the date in it is written at each sending.
public final class PreparedResponse {
  let status: Int
  /// As long as the connection lives on, and with `Connection: close`.
  let keepAlive: Serialized
  let closing: Serialized

  struct Serialized {
    let memory: RawMemory
    let count: Int
    let headCount: Int
    let dateOffset: Int

    var bytes: UnsafeMutableRawPointer { memory.base }
  }

  /// - Parameter response: not a stream.
  public init(_ response: Response) {
    switch response.content {
    case .prepared(let other):
      status = other.status
      keepAlive = other.keepAlive
      closing = other.closing
    case .plain(let plain), .stream(let plain, _):
      status = plain.status
      keepAlive = Self.serialize(plain, keepsAlive: true)
      closing = Self.serialize(plain, keepsAlive: false)
    }
  }

  private static func serialize(_ plain: Response.Plain, keepsAlive: Bool) -> Serialized {
    let head = ResponseHead.bytes(
      plain, length: .exactly(plain.body.count), keepsAlive: keepsAlive, date: ResponseHead.noDate)
    let memory = RawMemory(byteCount: head.bytes.count + plain.body.count)
    head.bytes.withUnsafeBytes { copy($0, to: memory.base) }
    plain.body.withUnsafeBytes { copy($0, to: memory.base + head.bytes.count) }
    return Serialized(
      memory: memory, count: head.bytes.count + plain.body.count, headCount: head.bytes.count,
      dateOffset: head.dateOffset)
  }

  private static func copy(_ bytes: UnsafeRawBufferPointer, to target: UnsafeMutableRawPointer) {
    if let base = bytes.baseAddress { target.copyMemory(from: base, byteCount: bytes.count) }
  }
}

/// Serialises heads of answers.
enum ResponseHead {
  enum Length {
    case exactly(Int)
    case chunked
    /// Until the connection closes (HTTP/1.0).
    case untilClose
  }

  /// As long as a date (RFC 9110, section 5.6.7), to be written over.
  static let noDate = Array("Thu, 01 Jan 1970 00:00:00 GMT".utf8)
  /// Said to clients: how long an idle connection is kept.
  static let keepAliveSeconds = 5

  static func bytes(
    _ plain: Response.Plain, length: Length, keepsAlive: Bool, date: [UInt8]
  ) -> (bytes: [UInt8], dateOffset: Int) {
    var output: [UInt8] = []
    output.reserveCapacity(256)
    output += "HTTP/1.1 \(plain.status) \(reason(plain.status))\r\n".utf8
    for (name, value) in plain.headers { output += "\(name): \(value)\r\n".utf8 }
    if let contentType = plain.contentType { output += "Content-Type: \(contentType)\r\n".utf8 }
    switch length {
    case .exactly(let count) where plain.status != 204 && plain.status != 304:
      output += "Content-Length: \(count)\r\n".utf8
    case .chunked: output += "Transfer-Encoding: chunked\r\n".utf8
    case .exactly, .untilClose: break
    }
    output += "Date: ".utf8
    let dateOffset = output.count
    output += date
    output +=
      keepsAlive
      ? "\r\nConnection: keep-alive\r\nKeep-Alive: timeout=\(keepAliveSeconds)\r\n\r\n".utf8
      : "\r\nConnection: close\r\n\r\n".utf8
    return (output, dateOffset)
  }

  static func reason(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 202: "Accepted"
    case 204: "No Content"
    case 304: "Not Modified"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 404: "Not Found"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 413: "Payload Too Large"
    case 414: "URI Too Long"
    case 423: "Locked"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: "Status"
    }
  }
}
