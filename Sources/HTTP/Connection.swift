import CSystemd
import EventLoop
import Glibc

/// One client's connection.
///
/// Requests are answered in the order in which they came, one at a time. Bytes are read into a
/// buffer that all connections share and are parsed there; only what is left of an incomplete
/// request is kept by the connection, so that an idle one costs next to nothing. Answers are
/// gathered in a shared buffer too and leave in one write when the event has been dealt with;
/// only what the socket does not take is kept, and while that is much, no further request is
/// read.
///
/// Every state has a deadline, which the server's one timer watches: see `Server.sweep`.
final class Connection {
  enum State {
    /// Waiting for a request, or in the middle of its head.
    case head
    /// Receiving the request's body.
    case body
    /// The handler has asked for time.
    case awaiting
    /// A producer writes the answer's body.
    case streaming
    /// The last answer is on its way; what still comes in is dropped.
    case draining
  }

  private unowned let server: Server
  private let descriptor: Int32
  private var watch: EventLoop.Watch?
  private(set) var state = State.head
  /// When the server closes the connection, whatever it does; nil for a stream.
  private(set) var deadline: MonotonicTime?

  private var parser = HeadParser()
  /// What was read and not used yet.
  private var pending: [UInt8] = []
  /// What the socket did not take, from `unsentStart` on.
  private var unsent: [UInt8] = []
  private var unsentStart = 0

  /// Under way: body to come, deferred, or streaming.
  private var request: Request?
  private var decoder: ChunkedDecoder?
  private var bodyRemaining = 0
  private var drained = 0
  private var answered = false
  private var keepsAlive = true
  private var hasInputEnded = false
  private var requestStart = MonotonicTime(nanoseconds: 0)
  private var writer: BodyWriter?
  private var producer: Task<Void, Never>?

  init(server: Server, descriptor: Int32) {
    self.server = server
    self.descriptor = descriptor
  }

  private var loop: EventLoop { .shared }

  func begin() throws(SystemError) {
    setDeadline(server.configuration.headTimeout)
    watch = try loop.watch(descriptor, .read) { [unowned self] readiness in
      if readiness.contains(.write) { sendUnsent() }
      if readiness.contains(.read), watch != nil { receive() }
    }
  }

  // MARK: Receiving

  private func receive() {
    let count: Int
    if pending.isEmpty {
      let buffer = server.readBuffer
      count = read(descriptor, buffer, Server.readBufferBytes)
      if count > 0 {
        let used = process(buffer.assumingMemoryBound(to: UInt8.self), count)
        if watch != nil, used < count {
          pending = Array(UnsafeRawBufferPointer(start: buffer + used, count: count - used))
        }
      }
    } else {
      count = read(descriptor, server.readBuffer, Server.readBufferBytes)
      if count > 0 {
        pending += UnsafeRawBufferPointer(start: server.readBuffer, count: count)
        processPending()
      }
    }
    if count == 0 { return noteEnd() }
    if count < 0, errno != EAGAIN, errno != EINTR { return close() }
    finishEvent()
  }

  /// Goes on with what is left, when an answer has made room for the next request.
  private func processPending() {
    guard !pending.isEmpty else { return }
    let bytes = pending
    pending = []
    let used = bytes.withUnsafeBufferPointer { buffer in
      buffer.baseAddress.map { process($0, buffer.count) } ?? 0
    }
    if watch != nil, used < bytes.count { pending = Array(bytes[used...]) }
  }

  /// - Returns: how many bytes were used; the rest is to be offered again with what follows it.
  private func process(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int {
    var at = 0
    while at < count, watch != nil {
      switch state {
      case .head:
        guard unsent.count - unsentStart <= Limits.queuedBytes else { return at }
        if requestStart.nanoseconds == 0 {
          requestStart = loop.now
          setDeadline(server.configuration.headTimeout)
        }
        let request = server.spareRequest
        switch parser.parse(bytes + at, count - at, into: &request.head) {
        case .incomplete: return at
        case .failure(let failure):
          refuse(failure)
          return count
        case .complete:
          request.reset(bytes + at)
          at += request.head.byteCount
          take(request)
        }
      case .body: at += receiveBody(bytes + at, count - at)
      case .awaiting, .streaming: return at
      case .draining:
        drained += count - at
        if drained > Limits.drainedBytes { close() }
        return count
      }
    }
    return at
  }

  /// A head is complete: answers it, or begins with its body.
  private func take(_ request: Request) {
    keepsAlive = request.head.keepsAlive && !server.isStopping
    if request.head.isChunked || (request.head.contentLength ?? 0) > 0 {
      beginBody(request)
    } else {
      answer(request)
    }
  }

  private func beginBody(_ request: Request) {
    request.detach()
    server.takeSpareRequest()
    self.request = request
    decoder = request.head.isChunked ? ChunkedDecoder() : nil
    bodyRemaining = request.head.contentLength ?? 0
    setDeadline(server.configuration.requestTimeout)
    if bodyRemaining > Limits.bodyBytes {
      request.isBodyTooLarge = true
      keepsAlive = false
      return answer(request)
    }
    state = .body
    if request.head.expectsContinue { send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
  }

  private func receiveBody(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int {
    guard let request else { return count }
    let before = request.body.count
    var used = count
    var isComplete = false
    if decoder != nil {
      let outcome = decoder?.decode(bytes, count) { piece in
        if request.body.count <= Limits.bodyBytes { request.body += piece }
      }
      switch outcome {
      case .complete(let end):
        used = end
        isComplete = true
      case .failure:
        server.bodyBytes -= before
        request.body = []
        refuse(.badRequest)
        return count
      case .incomplete, nil: break
      }
    } else {
      used = min(count, bodyRemaining)
      request.body += UnsafeBufferPointer(start: bytes, count: used)
      bodyRemaining -= used
      isComplete = bodyRemaining == 0
    }
    server.bodyBytes += request.body.count - before
    if request.body.count > Limits.bodyBytes {
      releaseBody(request)
      request.isBodyTooLarge = true
      keepsAlive = keepsAlive && isComplete
      answer(request)
    } else if server.bodyBytes > Limits.allBodiesBytes {
      releaseBody(request)
      refuse(.overloaded)
    } else if isComplete {
      server.bodyBytes -= request.body.count
      answer(request)
    }
    return used
  }

  private func releaseBody(_ request: Request) {
    server.bodyBytes -= request.body.count
    request.body = []
  }

  // MARK: Answering

  private func answer(_ request: Request) {
    if let response = server.pipeline.answer(request) { return deliver(response, to: request) }
    let responder = request.deferAnswer()
    if self.request !== request {
      server.takeSpareRequest()
      self.request = request
    }
    state = .awaiting
    setDeadline(server.configuration.idleTimeout)
    responder.connect { [weak self] response in
      guard let self, watch != nil else { return }
      deliver(response, to: request)
      if watch != nil, state == .head { processPending() }
      finishEvent()
    }
  }

  private func deliver(_ response: Response, to request: Request) {
    answered = true
    let start = requestStart
    let isHead = request.method == .head
    var byteCount = 0
    switch response.content {
    case .prepared(let prepared):
      let serialized = keepsAlive ? prepared.keepAlive : prepared.closing
      byteCount = isHead ? serialized.headCount : serialized.count
      server.writeDate(into: serialized.bytes + serialized.dateOffset)
      send(serialized.bytes, byteCount)
    case .plain(let plain):
      let head = ResponseHead.bytes(
        plain, length: .exactly(plain.body.count), keepsAlive: keepsAlive, date: server.date)
      byteCount = head.bytes.count + (isHead ? 0 : plain.body.count)
      send(head.bytes, isHead ? [] : plain.body)
    case .stream(let plain, let producer):
      guard !isHead else {
        send(
          ResponseHead.bytes(plain, length: .untilClose, keepsAlive: keepsAlive, date: server.date).bytes)
        break
      }
      beginStream(plain, producer, request)
      return
    }
    server.noteFinished(request, status: response.status, byteCount: byteCount, start: start)
    endRequest()
  }

  private func endRequest() {
    request = nil
    decoder = nil
    requestStart = MonotonicTime(nanoseconds: 0)
    if keepsAlive, !hasInputEnded {
      state = .head
      setDeadline(server.configuration.keepAliveTimeout)
    } else {
      beginDraining()
    }
  }

  private func refuse(_ failure: RequestFailure) {
    keepsAlive = false
    let plain = Response.Plain(status: failure.status)
    send(
      ResponseHead.bytes(plain, length: .exactly(0), keepsAlive: false, date: server.date).bytes)
    request = nil
    decoder = nil
    beginDraining()
  }

  /// The answer must not be lost to a reset: the sending side is shut when all is sent, and
  /// what the client still sends is dropped until it closes, or for a moment.
  private func beginDraining() {
    state = .draining
    pending = []
    setDeadline(server.configuration.drainTimeout)
  }

  // MARK: Streams

  private func beginStream(
    _ plain: Response.Plain, _ producer: @escaping (BodyWriter) async -> Void, _ request: Request
  ) {
    let isChunked = request.head.minorVersion == 1
    if !isChunked { keepsAlive = false }
    request.detach()
    if self.request !== request {
      server.takeSpareRequest()
      self.request = request
    }
    state = .streaming
    deadline = nil
    let writer = BodyWriter(
      connection: self, isChunked: isChunked,
      head: { [unowned self] in
        ResponseHead.bytes(
          plain, length: isChunked ? .chunked : .untilClose, keepsAlive: keepsAlive, date: server.date
        ).bytes
      })
    self.writer = writer
    self.producer = Task { [weak self] in
      await producer(writer)
      self?.endStream(writer, status: plain.status)
    }
  }

  private func endStream(_ writer: BodyWriter, status: Int) {
    guard watch != nil, self.writer === writer, let request else { return }
    writer.end()
    self.writer = nil
    producer = nil
    server.noteFinished(request, status: status, byteCount: writer.byteCount, start: requestStart)
    endRequest()
    if state == .head { processPending() }
    finishEvent()
  }

  /// For the writer: bytes of the stream, and whether it should go on at once.
  func sendStream(_ bytes: [UInt8]) -> Bool {
    send(bytes)
    flush()
    return watch != nil && unsent.count - unsentStart <= Limits.queuedBytes
  }

  // MARK: Sending

  private func send(_ bytes: UnsafeRawPointer, _ count: Int) {
    if unsent.isEmpty, server.output.append(bytes, count) { return }
    flush()
    if unsent.isEmpty, server.output.append(bytes, count) { return }
    guard watch != nil else { return }
    unsent += UnsafeRawBufferPointer(start: bytes, count: count)
  }

  private func send(_ first: [UInt8], _ second: [UInt8] = []) {
    if second.count > OutputBuffer.capacity / 4, unsent.isEmpty {
      flush()
      if unsent.isEmpty { return sendTogether(first, second) }
    }
    for bytes in [first, second] where !bytes.isEmpty {
      bytes.withUnsafeBytes { buffer in
        if let base = buffer.baseAddress { send(base, buffer.count) }
      }
    }
  }

  /// Head and a large body in one writev(2), without copying the body.
  private func sendTogether(_ first: [UInt8], _ second: [UInt8]) {
    guard watch != nil else { return }
    var sent = 0
    first.withUnsafeBytes { one in
      second.withUnsafeBytes { two in
        let vectors = [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: one.baseAddress), iov_len: one.count),
          iovec(iov_base: UnsafeMutableRawPointer(mutating: two.baseAddress), iov_len: two.count),
        ]
        sent = writev(descriptor, vectors, 2)
      }
    }
    if sent < 0 {
      guard errno == EAGAIN || errno == EINTR else { return close() }
      sent = 0
    }
    if sent < first.count { unsent += first[sent...] }
    unsent += second[max(0, sent - first.count)...]
    watchForWriting()
  }

  /// Hands the gathered answers to the socket.
  private func flush() {
    let output = server.output
    guard output.count > 0 else { return }
    defer { output.removeAll() }
    guard watch != nil else { return }
    let sent = write(descriptor, output.base, output.count)
    if sent == output.count { return }
    if sent < 0, errno != EAGAIN, errno != EINTR { return close() }
    let start = max(sent, 0)
    unsent += UnsafeRawBufferPointer(start: output.base + start, count: output.count - start)
    watchForWriting()
  }

  private func sendUnsent() {
    let count = unsent.count - unsentStart
    guard count > 0 else { return watchForWriting() }
    let sent = unsent.withUnsafeBytes { buffer in
      write(descriptor, buffer.baseAddress.map { $0 + unsentStart }, count)
    }
    if sent < 0 {
      if errno != EAGAIN, errno != EINTR { close() }
      return
    }
    if deadline != nil { setDeadline(server.configuration.idleTimeout) }
    unsentStart += sent
    if unsentStart == unsent.count {
      unsent = []
      unsentStart = 0
      if state == .draining { setDeadline(server.configuration.drainTimeout) }
      if state == .head { setDeadline(server.configuration.keepAliveTimeout) }
    }
    if unsent.count - unsentStart <= Limits.queuedBytes / 2 {
      writer?.resume()
      if state == .head { processPending() }
    }
    finishEvent()
  }

  private func watchForWriting() {
    guard let watch else { return }
    var interest: EventLoop.Interest = []
    if !unsent.isEmpty { interest.insert(.write) }
    let isFull = pending.count > Limits.pipelinedBytes + Limits.headBytes
    if !hasInputEnded, !isFull || state == .draining { interest.insert(.read) }
    if watch.interest != interest { watch.interest = interest }
  }

  /// The end of every event: what was gathered leaves, and the next interest is set.
  private func finishEvent() {
    flush()
    guard watch != nil else { return }
    if state == .draining, unsent.isEmpty {
      if hasInputEnded { return close() }
      shutdown(descriptor, Int32(SHUT_WR))
    }
    watchForWriting()
    server.note(deadline: deadline)
  }

  // MARK: End

  /// The client has said that nothing more will come. What it has asked for is still answered;
  /// a stream has lost its reader.
  private func noteEnd() {
    hasInputEnded = true
    switch state {
    case .awaiting:
      keepsAlive = false
      finishEvent()
    case .streaming, .body: close()
    case .head where unsent.isEmpty: close()
    case .draining where unsent.isEmpty: close()
    case .head, .draining:
      state = .draining
      finishEvent()
    }
  }

  /// The time of the state is over.
  func expire() {
    switch state {
    case .head where !pending.isEmpty:
      refuse(.timeout)
      finishEvent()
    case .body:
      if let request { releaseBody(request) }
      refuse(.timeout)
      finishEvent()
    default: close()
    }
  }

  /// While the server stops: true when nothing is under way.
  var isIdle: Bool { state == .head && pending.isEmpty && unsent.isEmpty }

  /// The answer under way is the last one.
  func finishSoon() { keepsAlive = false }

  func close() {
    guard let watch else { return }
    watch.cancel()
    self.watch = nil
    if state == .body, let request { releaseBody(request) }
    Glibc.close(descriptor)
    unsent = []
    pending = []
    request?.responder?.cancel()
    request = nil
    producer?.cancel()
    producer = nil
    writer?.fail()
    writer = nil
    server.remove(self)
  }

  private func setDeadline(_ delay: Duration) {
    deadline = loop.now + delay
  }
}
