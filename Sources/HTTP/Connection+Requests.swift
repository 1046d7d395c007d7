import EventLoop

extension Connection {
  // MARK: Input

  /// Takes requests out of the input and answers them, as far as that goes.
  ///
  /// - Returns: the bytes that were consumed.
  func process(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    var at = 0
    var budget = Limits.requestsPerTurn
    while at < bytes.count {
      switch phase {
      case .head:
        guard output.isEmpty else { return at }
        guard budget > 0 else {
          resumeLater()
          return at
        }
        budget -= 1
        guard let used = takeHead(bytes.slice(at..<bytes.count)) else { return at }
        at += used
      case .body:
        at += takeBody(bytes.slice(at..<bytes.count))
      case .skipping:
        at += skip(bytes.slice(at..<bytes.count))
      case .waiting, .streaming:
        return at
      case .flushing, .closed:
        return bytes.count
      case .lingering:
        dropped += bytes.count - at
        if dropped > Limits.lingeringBytes { close() }
        return bytes.count
      }
    }
    return at
  }

  /// - Returns: bytes of the request that were consumed; nil when its head is not complete.
  private func takeHead(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    var current = request.take() ?? server.takeRequest()
    current.base = bytes.baseAddress
    switch current.parser.advance(bytes) {
    case .needsMore:
      // Unfinished: the deadline runs from the first byte on.
      if requestDeadline == .max {
        requestDeadline = deadline(after: server.timeouts.head)
      }
      request = current
      return nil
    case .failed(let fault):
      request = current
      fail(fault)
      return bytes.count
    case .complete:
      requestDeadline = .max
      let length = current.parser.length
      begin(current, hasMore: bytes.count > length)
      server.giveBack(&current)
      return length
    }
  }

  private func takeBody(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    guard let request else { return bytes.count }
    switch rest {
    case .none: return 0
    case .length(let length):
      let count = min(length, bytes.count)
      guard chargeBody(count) else { return bytes.count }
      request.body.append(contentsOf: bytes.slice(0..<count))
      rest = count == length ? .none : .length(length - count)
      if count == length { bodyIsComplete() }
      return count
    case .chunked(var decoder):
      guard chargeBody(bytes.count) else { return bytes.count }
      var used = 0
      var isTooLarge = false
      let progress = decoder.advance(bytes, consumed: &used) { piece in
        guard !isTooLarge, request.body.count + piece.count <= Limits.bodyBytes else {
          isTooLarge = true
          return
        }
        request.body.append(contentsOf: piece)
      }
      rest = progress == .complete ? .none : .chunked(decoder)
      if progress == .failed {
        fail(.malformed)
      } else if isTooLarge {
        request.body = []
        request.bodyIsTooLarge = true
        keepsAlive = false
        bodyIsComplete()
      } else if progress == .complete {
        bodyIsComplete()
      }
      return used
    }
  }

  /// Counts bytes of bodies that are being received, the coding of chunks included.
  ///
  /// - Returns: false when there is too much of them; the request has been refused then.
  private func chargeBody(_ count: Int) -> Bool {
    chargedBytes += count
    server.bodyBytes += count
    guard server.bodyBytes > Limits.allBodiesBytes else { return true }
    fail(.overloaded)
    return false
  }

  private func skip(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    var used = 0
    switch rest {
    case .none: break
    case .length(let length):
      used = min(length, bytes.count)
      rest = used == length ? .none : .length(length - used)
    case .chunked(var decoder):
      let progress = decoder.advance(bytes, consumed: &used) { _ in }
      dropped += used
      if progress == .failed || dropped > Limits.skippedBytes {
        finishAndClose()
        return bytes.count
      }
      rest = progress == .complete ? .none : .chunked(decoder)
    }
    if case .none = rest { phase = .head }
    return used
  }

  // MARK: A request

  private func begin(_ request: Request, hasMore: Bool) {
    let parser = request.parser
    server.counters.requests += 1
    request.method = parser.method
    keepsAlive = parser.keepsAlive && !server.isStopping
    if server.router.pipeline.onFinish != nil { startTime = .read() }
    switch parser.framing {
    case .none, .length(0): rest = .none
    case .length(let length): rest = .length(length)
    case .chunked: rest = .chunked(ChunkedDecoder())
    }

    switch server.router.decide(request) {
    case .route(let route): run(route, request)
    case .answer(let response): answer(response, to: request)
    case .readBody:
      switch rest {
      case .none: return decideWithBody(request)
      case .length(let length) where length > Limits.bodyBytes:
        request.bodyIsTooLarge = true
        return decideWithBody(request)
      case .length(let length): request.body.reserveCapacity(min(length, 64 * 1024))
      case .chunked: break
      }
      request.detach()
      self.request = request
      phase = .body
      requestDeadline = deadline(after: server.timeouts.request)
      if parser.expectsContinue, !hasMore { sendContinue() }
    }
  }

  private func bodyIsComplete() {
    guard let request = request.take() else { return }
    requestDeadline = .max
    releaseCharge()
    phase = .head
    decideWithBody(request)
  }

  private func decideWithBody(_ request: Request) {
    switch server.router.decideWithBody(request) {
    case .route(let route): run(route, request)
    case .answer(let response): answer(response, to: request)
    case .readBody: break
    }
  }

  @inline(__always)
  private func run(_ route: Route, _ request: Request) {
    if let response = route.handler(request) {
      request.responder?.retire()
      return answer(response, to: request)
    }
    guard var responder = request.responder.take() else {
      return answer(.failed(503, "The request was not answered"), to: request)
    }
    if let response = responder.early.take() { return answer(response, to: request) }
    guard !isKnownUniquelyReferenced(&responder) else {
      // Nobody kept it, so nobody can ever use it.
      return answer(.failed(503, "The request was not answered"), to: request)
    }
    request.detach()
    self.request = request
    responder.connection = self
    waitingResponder = WeakResponder(responder)
    phase = .waiting
  }

  /// Called by the responder.
  func finishDeferred(with response: Response) {
    guard phase == .waiting, let request = request.take() else { return }
    waitingResponder = nil
    phase = .head
    answer(response, to: request)
    finishBatch()
    resumeLater()
  }

  // MARK: Answers

  private func answer(_ response: Response, to request: Request) {
    if server.isStopping { keepsAlive = false }
    if !canSkipRest(request) { keepsAlive = false }
    let isHead = request.method == .head
    var sent = 0
    switch response.body {
    case .prepared(let prepared):
      send(head: prepared.head, body: isHead ? [] : prepared.body)
      sent = isHead ? 0 : prepared.body.count
    case .bytes(let bytes):
      let isBodiless = response.status.isBodiless
      send(
        head: PreparedResponse.head(response, length: bytes.count), body: isHead || isBodiless ? [] : bytes)
      sent = isHead || isBodiless ? 0 : bytes.count
    case .stream(let body):
      if !isHead && !response.status.isBodiless {
        request.detach()
        return startStream(response, request, body)
      }
      send(
        head: PreparedResponse.head(response, length: nil, isChunked: !request.parser.isVersion10), body: [])
    }
    note(request, response.status, sent)
    goOn()
  }

  func note(_ request: Request, _ status: Status, _ bytes: Int) {
    guard let onFinish = server.router.pipeline.onFinish else { return }
    onFinish(
      Exchange(
        request: request, status: status.code, byteCount: bytes, duration: .read() - startTime))
  }

  /// After an answer.
  func goOn() {
    guard phase != .closed else { return }
    guard keepsAlive else { return finishAndClose() }
    if case .none = rest {
      phase = .head
    } else {
      phase = .skipping
      dropped = 0
    }
  }

  /// Whether what is left of the request's body is small enough to be read away. A client that
  /// waits for `100 Continue` may or may not send it: nobody knows where the next request begins.
  private func canSkipRest(_ request: Request) -> Bool {
    switch rest {
    case .none: true
    case .length(let length): length <= Limits.skippedBytes && !request.parser.expectsContinue
    case .chunked: !request.parser.expectsContinue
    }
  }

  /// Answers a request that is not understood, and closes.
  func fail(_ fault: RequestFault) {
    keepsAlive = false
    rest = .none
    releaseCharge()
    send(head: PreparedResponse.head(.empty(fault.status.code), length: 0), body: [])
    request = nil
    finishAndClose()
  }
}
