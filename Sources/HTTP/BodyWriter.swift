/// The client of a stream has gone away.
public nonisolated struct ClientGone: Error, Sendable {
  public init() {}
}

/// Writes the body of a streamed answer, as fast as its reader takes it.
public final class BodyWriter {
  private weak var connection: Connection?
  private let isChunked: Bool
  private var makeHead: (() -> [UInt8])?
  private var continuation: CheckedContinuation<Void, any Error>?
  private var hasFailed = false
  /// Bytes of the body so far.
  public private(set) var byteCount = 0

  init(connection: Connection, isChunked: Bool, head: @escaping () -> [UInt8]) {
    self.connection = connection
    self.isChunked = isChunked
    makeHead = head
  }

  /// Sends a piece; waits while the reader is behind.
  ///
  /// - Throws: `ClientGone` as soon as the client has closed the connection.
  public func write(_ bytes: [UInt8]) async throws {
    guard !hasFailed, let connection else { throw ClientGone() }
    byteCount += bytes.count
    guard !connection.sendStream(framed(bytes)) else { return }
    if hasFailed { throw ClientGone() }
    try await withCheckedThrowingContinuation { continuation = $0 }
  }

  /// Sends the head now, before the first piece.
  public func begin() async throws { try await write([]) }

  private func framed(_ bytes: [UInt8]) -> [UInt8] {
    var output = makeHead.take()?() ?? []
    guard !bytes.isEmpty else { return output }
    if isChunked { output += "\(String(bytes.count, radix: 16))\r\n".utf8 }
    output += bytes
    if isChunked { output += "\r\n".utf8 }
    return output
  }

  func end() {
    guard !hasFailed, let connection else { return }
    var output = framed([])
    if isChunked { output += "0\r\n\r\n".utf8 }
    _ = connection.sendStream(output)
  }

  func resume() { continuation.take()?.resume() }

  func fail() {
    hasFailed = true
    continuation.take()?.resume(throwing: ClientGone())
  }
}
