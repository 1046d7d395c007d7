import CCurl
import DequeModule
import EventLoop
import Glibc

/// One request and its answer, from the first option set to the handle's return.
///
/// `result` is set exactly once, by libcurl's end, by a timeout or by cancellation; the handle
/// leaves libcurl at that moment, so that no callback comes after it. One task at a time waits.
final class Transfer {
  /// Where the answer's body goes.
  enum Sink {
    case whole(limit: Int)
    /// To the reader of a `ResponseBody`, who may lag behind.
    case queue
  }

  /// What a task can wait for; each includes the end.
  enum Milestone { case head, data, end }

  /// Bytes queued for a reader before libcurl is told to pause: two full reads.
  static let queueLimit = 64 * 1024
  /// libcurl's receive and send buffers, each held for the time of a transfer.
  static let bufferSize = 16 * 1024
  /// Bytes of an answer's head; a server may not make us remember more.
  static let headLimit = 64 * 1024

  let request: ClientRequest
  let sink: Sink
  let multi: MultiHandle
  var easy: EasyHandle?
  var headerList: UnsafeMutablePointer<curl_slist>?
  var resolveList: UnsafeMutablePointer<curl_slist>?

  var phase = ClientError.Phase.connecting
  var result: Result<Void, ClientError>?
  var waiting: (milestone: Milestone, continuation: CheckedContinuation<Void, Never>)?

  var status = 0
  var fields = HeaderFields()
  var headBytes = 0
  var redirects = 0
  var hasHead = false

  var whole: [UInt8] = []
  var queue = Deque<[UInt8]>()
  var queuedBytes = 0
  var isReceivePaused = false

  /// Of the connection that is in use.
  var socket: Int32?
  var isSendPaused = false
  var bodyOffset = 0
  var failureInCallback: (kind: ClientError.Kind, reason: String)?

  let started = MonotonicTime.read()
  var lastProgress = MonotonicTime.read()
  var timer: LoopTimer?

  init(
    _ request: ClientRequest, sink: Sink, userAgent: String?, roots: TrustRoots, multi: MultiHandle
  ) throws(ClientError) {
    self.request = request
    self.sink = sink
    self.multi = multi
    guard let easy = multi.takeHandle() else {
      throw error(kind: .other, reason: "libcurl has no handle for it")
    }
    self.easy = easy
    do {
      try configure(easy.pointer, userAgent: userAgent, roots: roots)
    } catch {
      releaseHandle(isAdded: false)
      throw error
    }
  }

  isolated deinit {
    curl_slist_free_all(headerList)
    curl_slist_free_all(resolveList)
  }

  func start() throws(ClientError) {
    guard let easy else { return }
    if case .stream(let body) = request.body {
      guard body.attach(self) else {
        releaseHandle(isAdded: false)
        throw error(kind: .invalidRequest, reason: "the body was already sent once")
      }
    }
    let code = multi.add(self, easy)
    guard code == CURLM_OK else {
      releaseHandle(isAdded: false)
      throw error(kind: .other, reason: String(cString: curl_multi_strerror(code)))
    }
    scheduleDeadline()
  }

  // MARK: Waiting

  private func isReached(_ milestone: Milestone) -> Bool {
    switch milestone {
    case .head: result != nil || hasHead
    case .data: result != nil || !queue.isEmpty
    case .end: result != nil
    }
  }

  /// Returns when the milestone is reached. Cancellation of the task ends the transfer.
  func wait(for milestone: Milestone) async {
    guard !isReached(milestone) else { return }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled { cancel() }
        guard !isReached(milestone) else { return continuation.resume() }
        precondition(waiting == nil, "a body has one reader at a time")
        waiting = (milestone, continuation)
      }
    } onCancel: {
      // Not at once: the canceller may stand inside one of libcurl's callbacks.
      Task { @MainActor in self.cancel() }
    }
  }

  func wakeIfReached() {
    guard let waiting, isReached(waiting.milestone) else { return }
    self.waiting = nil
    waiting.continuation.resume()
  }

  // MARK: Answers

  func wholeAnswer() throws(ClientError) -> ClientResponse {
    try result?.get()
    return ClientResponse(status: status, headers: fields, body: whole)
  }

  func streamedAnswer() throws(ClientError) -> StreamedResponse {
    if !hasHead { try result?.get() }
    return StreamedResponse(status: status, headers: fields, body: ResponseBody(self))
  }

  /// The next piece of a streamed body; nil at its regular end.
  func nextChunk() async throws(ClientError) -> [UInt8]? {
    await wait(for: .data)
    if let chunk = queue.popFirst() {
      queuedBytes -= chunk.count
      if isReceivePaused, queuedBytes <= Self.queueLimit / 2 {
        isReceivePaused = false
        lastProgress = .read()
        updatePause()
      }
      return chunk
    }
    try result?.get()
    return nil
  }

  // MARK: Ends

  /// Gives the transfer up. Must not be called from a callback of libcurl.
  func cancel() {
    fail(kind: .cancelled, reason: "cancelled")
  }

  func fail(kind: ClientError.Kind, reason: String) {
    end(.failure(error(kind: kind, reason: reason)))
  }

  func libcurlEnded(_ code: CURLcode) {
    if code == CURLE_OK {
      end(.success(()))
    } else {
      end(.failure(describe(code)))
    }
  }

  private func end(_ result: Result<Void, ClientError>) {
    guard self.result == nil else { return }
    self.result = result
    timer?.cancel()
    timer = nil
    if case .failure(let error) = result, error.kind == .cancelled {
      queue = []
      queuedBytes = 0
    }
    releaseHandle(isAdded: true)
    if case .stream(let body) = request.body {
      if case .failure(let error) = result { body.detach(error) } else { body.detach(nil) }
    }
    wakeIfReached()
  }

  private func releaseHandle(isAdded: Bool) {
    guard let easy else { return }
    self.easy = nil
    if isAdded { multi.remove(easy) }
    multi.giveBack(easy)
    curl_slist_free_all(headerList)
    headerList = nil
  }

  private func updatePause() {
    guard let easy else { return }
    let bits = (isReceivePaused ? CURLPAUSE_RECV : 0) | (isSendPaused ? CURLPAUSE_SEND : 0)
    let code = curl_easy_pause(easy.pointer, bits)
    if code != CURLE_OK { libcurlEnded(code) }
  }

  // MARK: Time

  func scheduleDeadline() {
    guard let deadline = nextDeadline() else { return }
    let delay = deadline.time - .read()
    let tolerance = min(Duration.seconds(1), delay / 8)
    timer = EventLoop.shared.schedule(after: delay, tolerance: max(tolerance, .zero)) { [weak self] in
      self?.checkDeadline()
    }
  }

  private func checkDeadline() {
    guard result == nil else { return }
    if let deadline = nextDeadline(), deadline.time <= .read() {
      fail(kind: .timeout, reason: deadline.reason)
    } else {
      scheduleDeadline()
    }
  }

  /// The nearest limit. Progress only moves it away, so the timer is never set anew before it fires.
  private func nextDeadline() -> (time: MonotonicTime, reason: String)? {
    var nearest: (time: MonotonicTime, reason: String)?
    func consider(_ limit: Duration?, since start: MonotonicTime, _ reason: (Int) -> String) {
      guard let limit, nearest == nil || start + limit < nearest?.time ?? start else { return }
      nearest = (start + limit, reason(limit.milliseconds))
    }
    consider(request.timeouts.total, since: started) { "not finished after \($0) ms" }
    switch phase {
    case .connecting:
      // libcurl keeps this limit, and the next phase brings a nearer one that needs the timer.
      let first = request.timeouts.firstByte.map { $0 + request.timeouts.connect }
      consider(first, since: started) { "no answer after \($0) ms" }
    case .waitingForAnswer:
      let since = isSendPaused ? MonotonicTime.read() : lastProgress
      consider(request.timeouts.firstByte, since: since) { "no answer after \($0) ms" }
    case .readingBody:
      let since = isReceivePaused ? MonotonicTime.read() : lastProgress
      consider(request.timeouts.idle, since: since) { "silent for \($0) ms in the middle of the answer" }
    }
    return nearest
  }

  /// Bytes that the other side's system has not acknowledged; nil without a connection.
  var unacknowledged: Int? {
    guard result == nil, let socket else { return nil }
    let count = ccurl_unacknowledged(socket)
    return count >= 0 ? Int(count) : nil
  }

  /// Packets on their way; nil when the connection has ended on either side, or is none of TCP.
  var packetsInFlight: Int? {
    guard result == nil, let socket else { return nil }
    let count = ccurl_packets_in_flight(socket)
    return count >= 0 ? Int(count) : nil
  }

  /// The writer of a streamed body has something for libcurl. Not called from its callbacks.
  func bodyHasMore() {
    guard isSendPaused, result == nil else { return }
    isSendPaused = false
    lastProgress = .read()
    updatePause()
  }
}
