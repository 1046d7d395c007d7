import DequeModule

/// The body of a streamed answer, pulled by one reader.
///
/// When the reader lags more than 64 KiB behind, the transfer pauses and the other side has
/// to wait. Dropping the body ends the transfer.
public final class ResponseBody {
  private let transfer: Transfer

  init(_ transfer: Transfer) { self.transfer = transfer }

  isolated deinit { transfer.cancel() }

  /// The next piece, at most 16 KiB of it; nil at the end of a complete body.
  public func next() async throws(ClientError) -> [UInt8]? {
    try await transfer.nextChunk()
  }

  /// Ends the transfer; a waiting `next()` throws `cancelled`.
  public func cancel() { transfer.cancel() }
}

extension ResponseBody: AsyncSequence {
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let body: ResponseBody

    public mutating func next() async throws(ClientError) -> [UInt8]? { try await body.next() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(body: self) }
}

/// A request's body that is sent while it is written.
///
/// The writer waits in `write(_:)` while more than `capacity` bytes are not yet sent. A
/// body serves one request; when its transfer ends, by an answer or an error, writing throws.
public final class RequestBody {
  enum Piece {
    case bytes(Int)
    case nothingYet
    case end
    case failed
  }

  /// Announced as `Content-Length`; nil sends chunks (RFC 9112 section 7.1).
  public let length: Int?
  /// Called when a connection stands and the request's head goes out, and again when another one is needed.
  public var onConnection: () -> Void = {}
  private let capacity: Int
  private var chunks = Deque<ArraySlice<UInt8>>()
  private var pendingBytes = 0
  private var isFinished = false
  private var isAbandoned = false
  private var error: ClientError?
  private var wasAttached = false
  private weak var transfer: Transfer?
  private var writers: [CheckedContinuation<Void, Never>] = []
  private(set) var hasBeenRead = false
  private var takenBytes = 0
  /// libcurl has asked for more when there was nothing: it holds nothing back.
  private var isDrained = false
  private var source: Task<Void, Never>?

  /// - Parameter capacity: bytes kept for the transfer before the writer has to wait.
  public init(length: Int? = nil, capacity: Int = 64 * 1024) {
    self.length = length
    self.capacity = capacity
  }

  /// A body that is pulled from a sequence at the pace of the other side. An error of the
  /// sequence gives the request up.
  public convenience init<S: AsyncSequence & Sendable>(
    _ sequence: S, length: Int? = nil
  ) where S.Element == [UInt8] {
    self.init(length: length)
    source = Task { [weak self] in
      do {
        for try await chunk in sequence {
          guard let self else { return }
          try await self.write(chunk)
        }
        self?.finish()
      } catch {
        self?.abandon()
      }
    }
  }

  deinit { source?.cancel() }

  /// Bytes written and not yet taken by the transfer.
  public var backlog: Int { pendingBytes }

  /// Bytes of the body that have reached the other side's system, at least: its program may not have read
  /// them. nil without a connection.
  ///
  /// What the system still holds is counted as it goes over the wire, with the frames of chunks and TLS, so
  /// that the true number is never smaller.
  public var acknowledged: Int? {
    guard let held = transfer?.unacknowledged else { return nil }
    if isDrained, held == 0 { return takenBytes }
    return max(takenBytes - Transfer.bufferSize - held, 0)
  }

  /// Packets on their way to the other side (TCP); zero while bytes wait says that the other side takes none.
  /// nil without a connection.
  public var packetsInFlight: Int? { transfer?.packetsInFlight }

  /// The connection (of TCP) has ended on either side in the middle of the body. libcurl takes no notice of that
  /// before it sends again.
  public var isCut: Bool {
    guard hasBeenRead, let transfer else { return false }
    return transfer.result == nil && transfer.packetsInFlight == nil
  }

  /// Hands bytes over, waiting while the other side is slow.
  ///
  /// - Throws: the transfer's error when it has ended, `cancelled` when this task is.
  public func write(_ bytes: [UInt8]) async throws(ClientError) {
    while pendingBytes >= capacity, error == nil, !isFinished {
      if Task.isCancelled { throw Self.cancelled }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          if Task.isCancelled { return continuation.resume() }
          writers.append(continuation)
        }
      } onCancel: {
        Task { @MainActor in self.wakeWriters() }
      }
    }
    if let error { throw error }
    guard !isFinished, !isAbandoned else { throw Self.closed }
    guard !bytes.isEmpty else { return }
    chunks.append(bytes[...])
    pendingBytes += bytes.count
    transfer?.bodyHasMore()
  }

  /// The body is complete.
  public func finish() {
    guard !isFinished else { return }
    isFinished = true
    transfer?.bodyHasMore()
  }

  /// The body cannot be completed; the request fails with `bodyFailed`.
  public func abandon() {
    guard !isFinished else { return }
    isAbandoned = true
    transfer?.bodyHasMore()
  }

  func attach(_ transfer: Transfer) -> Bool {
    guard !wasAttached else { return false }
    wasAttached = true
    self.transfer = transfer
    return true
  }

  func detach(_ error: ClientError?) {
    transfer = nil
    self.error = error ?? Self.closed
    chunks = []
    pendingBytes = 0
    source?.cancel()
    wakeWriters()
  }

  func take(into buffer: UnsafeMutableRawBufferPointer) -> Piece {
    if isAbandoned { return .failed }
    var filled = 0
    while filled < buffer.count, let chunk = chunks.popFirst() {
      let count = min(buffer.count - filled, chunk.count)
      chunk.prefix(count).withUnsafeBytes {
        UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(from: $0)
      }
      filled += count
      if count < chunk.count { chunks.prepend(chunk.dropFirst(count)) }
    }
    isDrained = filled == 0
    guard filled > 0 else { return isFinished ? .end : .nothingYet }
    hasBeenRead = true
    takenBytes += filled
    pendingBytes -= filled
    if pendingBytes < capacity { wakeWriters() }
    return .bytes(filled)
  }

  private func wakeWriters() {
    let waiting = writers
    writers = []
    for writer in waiting { writer.resume() }
  }

  private nonisolated static let cancelled = ClientError(
    kind: .cancelled, phase: .waitingForAnswer, message: "writing of the request's body was cancelled")
  private nonisolated static let closed = ClientError(
    kind: .bodyFailed, phase: .waitingForAnswer, message: "the request of this body has ended")
}
