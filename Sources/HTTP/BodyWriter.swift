/// The client closed the connection, or the server is going down.
public nonisolated struct ClientGone: Error, Sendable {
  public init() {}
}

/// The sink of a streamed response.
public final class BodyWriter {
  private weak var connection: Connection?

  init(connection: Connection) { self.connection = connection }

  /// Whether somebody still listens.
  public var isOpen: Bool { connection?.isStreaming(self) ?? false }

  /// Sends a piece of the body. Returns at once while the socket takes the data; suspends when
  /// more than `Limits.queuedBytes` wait for it, until they have gone.
  public func write(_ bytes: [UInt8]) async throws(ClientGone) {
    guard let connection, connection.isStreaming(self) else { throw ClientGone() }
    guard connection.sendPiece(bytes) else {
      guard await connection.roomInStream() else { throw ClientGone() }
      return
    }
  }

  public func write(_ text: String) async throws(ClientGone) {
    try await write(Array(text.utf8))
  }
}
