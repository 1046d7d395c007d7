/// What the server accepts from a client, and what it holds for one. Each limit has its own
/// answer, so that a client can tell what was wrong.
public nonisolated enum Limits {
  /// Request line and header fields together, in bytes. What Node accepts, so no client of the
  /// reference sends more. Answer: 431.
  public static let headBytes = 16 * 1024
  /// Header fields of one request; real clients send about ten. Answer: 431.
  public static let headerCount = 100
  /// Bytes of the request target; the longest of the API is below 200, filters and keys
  /// included. Answer: 414.
  public static let targetBytes = 8 * 1024
  /// Bytes of a request body, also after inflating (specification, http-api 2.4).
  /// Answer: 503 with `request entity too large`, once the client is authorised.
  public static let bodyBytes = 10 * 1024 * 1024
  /// Bodies that are being received by all connections together: one client must not decide how
  /// much memory the device has left. Answer: 503.
  public static let allBodiesBytes = 32 * 1024 * 1024
  /// Parameters of a form (specification, http-api 2.4). Answer: 503, `too many parameters`.
  public static let formParameters = 1000
  /// Nesting of a form's brackets. Answer: 503.
  public static let formDepth = 32
  /// Chunk extensions of one body in bytes: nobody needs them, and without a bound they never
  /// end. Answer: 400.
  public static let chunkExtensionBytes = 4 * 1024
  /// Trailer fields after a chunked body in bytes; they are read and dropped. Answer: 400.
  public static let trailerBytes = 8 * 1024

  /// Open connections: the soft limit of descriptors that systemd gives a service (1024) leaves
  /// room for the rest of the program; a unit that sets more can raise it by configuration.
  /// Answer: 503, and the connection is closed.
  public static let connections = 4096
  /// Bytes of pipelined requests kept while an answer is outstanding; beyond that the socket is
  /// not read, and TCP's flow control holds the client back.
  public static let pipelinedBytes = 64 * 1024
  /// Requests answered in one go before other connections have their turn.
  public static let requestsPerTurn = 128
  /// Bytes of a stream that wait for the socket; the writer is suspended above it.
  public static let queuedBytes = 64 * 1024
  /// Bytes one stream may send in a turn of the loop before other work has its turn.
  public static let streamBytesPerTurn = 256 * 1024
  /// An unread request body up to this size is skipped, so that the connection can be used
  /// again; with a larger rest it is closed after the answer.
  public static let skippedBytes = 64 * 1024
  /// Bytes taken and dropped from a client that is still sending when its connection is being
  /// closed: a reset would take the answer away from under it (RFC 9112 section 9.6).
  public static let lingeringBytes = 32 * 1024 * 1024
  /// Connections accepted in one turn per listener.
  public static let acceptsPerTurn = 64
  /// Connections that the kernel keeps until they are accepted.
  public static let backlog: Int32 = 511
}
