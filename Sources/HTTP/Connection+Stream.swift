import CSystemd
import EventLoop

/// A streamed response in progress.
final class StreamState {
  let request: Request
  let status: Status
  let isChunked: Bool
  var task: Task<Void, Never>?
  weak var writer: BodyWriter?
  var waiter: CheckedContinuation<Bool, Never>?
  var bytes = 0
  /// The turn of the loop that `bytesThisTurn` belongs to.
  var turn = MonotonicTime(nanoseconds: 0)
  var bytesThisTurn = 0
  var isDirty = false

  init(_ request: Request, _ status: Status, isChunked: Bool) {
    self.request = request
    self.status = status
    self.isChunked = isChunked
  }

  /// The client has gone.
  func abort() {
    task?.cancel()
    waiter.take()?.resume(returning: false)
  }
}

extension Connection {
  func startStream(
    _ response: Response, _ request: Request, _ body: @escaping @MainActor (BodyWriter) async -> Void
  ) {
    let isChunked = !request.parser.isVersion10
    if !isChunked { keepsAlive = false }
    send(head: PreparedResponse.head(response, length: nil, isChunked: isChunked), body: [])
    guard phase != .closed else { return }
    let state = StreamState(request, response.status, isChunked: isChunked)
    stream = state
    phase = .streaming
    // A client that vanished without a word is found out by the kernel within two minutes.
    Socket.setOption(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
    Socket.setOption(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
    Socket.setOption(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
    Socket.setOption(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
    let writer = BodyWriter(connection: self)
    state.writer = writer
    state.task = Task {
      await body(writer)
      self.endStream(state)
    }
  }

  func isStreaming(_ writer: BodyWriter) -> Bool {
    phase == .streaming && stream?.writer === writer && !server.isStopping
  }

  /// Puts a piece in line. It leaves before the loop sleeps, together with what else was
  /// written in this turn, or at once when enough has gathered.
  ///
  /// - Returns: false when the writer has to wait, by `roomInStream`.
  func sendPiece(_ bytes: [UInt8]) -> Bool {
    guard let stream, !bytes.isEmpty else { return true }
    stream.bytes += bytes.count
    if stream.isChunked {
      let size = Array((String(bytes.count, radix: 16) + "\r\n").utf8)
      output.append(size)
      output.append(bytes)
      output.append([0x0D, 0x0A])
    } else {
      output.append(bytes)
    }
    if stream.turn != server.loop.now {
      stream.turn = server.loop.now
      stream.bytesThisTurn = 0
    }
    stream.bytesThisTurn += bytes.count
    if output.count < Limits.queuedBytes, stream.bytesThisTurn < Limits.streamBytesPerTurn {
      if !stream.isDirty {
        stream.isDirty = true
        server.flushLater(self)
      }
      return true
    }
    writeQueue()
    return phase != .closed && output.isEmpty && stream.bytesThisTurn < Limits.streamBytesPerTurn
  }

  /// - Returns: false when the client has gone.
  func roomInStream() async -> Bool {
    guard let stream, phase == .streaming else { return false }
    guard output.isEmpty else { return await withCheckedContinuation { stream.waiter = $0 } }
    // The socket takes everything: others get their turn.
    await withCheckedContinuation { continuation in
      server.loop.enqueue { continuation.resume() }
    }
    return phase == .streaming
  }

  func flushStream() {
    guard let stream, stream.isDirty else { return }
    stream.isDirty = false
    if watch?.interest.contains(.write) != true { writeQueue() }
  }

  private func writeQueue() {
    guard !output.isEmpty else { return }
    let status = output.write(to: descriptor)
    guard status == 0 || status == EAGAIN else { return close() }
    finishBatch()
  }

  /// Some of the queue has gone.
  func streamAdvanced() {
    guard let stream, output.isEmpty, let waiter = stream.waiter.take() else { return }
    waiter.resume(returning: true)
  }

  private func endStream(_ state: StreamState) {
    guard phase == .streaming, stream === state else {
      note(state.request, state.status, state.bytes)
      return
    }
    if state.isChunked { output.append(Array("0\r\n\r\n".utf8)) }
    note(state.request, state.status, state.bytes)
    stream = nil
    if server.isStopping { keepsAlive = false }
    goOn()
    writeQueue()
    guard phase != .closed else { return }
    closeWhenFlushed()
    finishBatch()
    if output.isEmpty { resumeLater() }
  }
}
