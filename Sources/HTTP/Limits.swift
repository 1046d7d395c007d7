/// Bounds of the server. Each has its own answer, so that a client learns what it ran into.
public nonisolated enum Limits {
  /// Request line and header fields together; 431 beyond. As much as the reference allows.
  public static let headBytes = 16 * 1024
  /// Header fields of a request; 431 beyond. Our clients send about ten.
  public static let headerCount = 100
  /// Request target; 414 beyond.
  public static let targetBytes = 8 * 1024
  /// Body of a request, before and after inflating (http-api 2.4); the API answers 503.
  public static let bodyBytes = 10 * 1024 * 1024
  /// Bodies of all requests that are being received; 503 beyond, since one client must not
  /// decide how much memory the device has left for the others.
  public static let allBodiesBytes = 32 * 1024 * 1024
  /// Of one chunk's size line with its extensions; 400 beyond.
  public static let chunkLineBytes = 256
  /// Trailer fields after a chunked body, which are ignored; 400 beyond.
  public static let trailerBytes = 4 * 1024
  /// Connections at the same time; 503 and close beyond.
  public static let connections = 4096
  /// Bytes of answers that wait for a slow reader. Beyond it no further request of the
  /// connection is read until it has caught up; a stream's producer waits.
  public static let queuedBytes = 256 * 1024
  /// Bytes of requests that wait for an answer before them (pipelining); beyond it nothing
  /// more is read.
  public static let pipelinedBytes = 16 * 1024
  /// What is still read, and dropped, of a client that was refused, so that it can read why.
  public static let drainedBytes = 16 * 1024 * 1024
}
