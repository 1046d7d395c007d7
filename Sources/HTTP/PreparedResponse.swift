/// An answer serialised once and sent many times: `GET /ping`, a state document from memory.
///
/// Everything but the date and the fields about the connection is laid out in one piece of
/// memory; sending it is a few copies into the server's output buffer.
public nonisolated final class PreparedResponse: Sendable {
  public let status: Status
  public let body: [UInt8]
  /// Status line and fields, up to where the server adds its own.
  let head: [UInt8]

  /// - Parameter response: a stream, which cannot be prepared, loses its body.
  public init(_ response: Response) {
    switch response.body {
    case .prepared(let other):
      (status, body, head) = (other.status, other.body, other.head)
    case .bytes(let bytes):
      status = response.status
      body = response.status.isBodiless ? [] : bytes
      head = Self.head(response, length: bytes.count)
    case .stream:
      status = response.status
      body = []
      head = Self.head(response, length: 0)
    }
  }

  /// - Parameter length: nil for a chunked body.
  static func head(_ response: Response, length: Int?, isChunked: Bool = false) -> [UInt8] {
    var head: [UInt8] = []
    head.reserveCapacity(256)
    head.append(contentsOf: "HTTP/1.1 \(response.status.code) ".utf8)
    head.append(contentsOf: response.status.reason.utf8)
    head.append(contentsOf: "\r\n".utf8)
    if let type = response.contentType { append("Content-Type", type, to: &head) }
    for (name, value) in response.headers { append(name, value, to: &head) }
    if let length, !response.status.isBodiless {
      append("Content-Length", String(length), to: &head)
    } else if isChunked {
      append("Transfer-Encoding", "chunked", to: &head)
    }
    return head
  }

  private static func append(_ name: String, _ value: String, to head: inout [UInt8]) {
    head.append(contentsOf: name.utf8)
    head.append(contentsOf: ": ".utf8)
    // A line end in a value would let its author write further fields.
    for byte in value.utf8 where byte >= 0x20 && byte != 0x7F || byte == 0x09 { head.append(byte) }
    head.append(contentsOf: "\r\n".utf8)
  }
}
