import CSystemd
import EventLoop
import Glibc

/// One client's connection.
///
/// Input is parsed where it lies. As long as nothing is left over, that is the server's shared
/// buffer; a rest is moved to `kept`, which then comes first. Answers go into the server's
/// scratch buffer and leave with one call at the end of a batch; what the socket does not take
/// is moved to `output`, and until that is empty no further request is looked at. So one slow
/// or greedy client costs a bounded amount of memory.
///
/// Requests are answered strictly in their order, because there is only one at a time: `phase`
/// says what is being done for it.
///
///     head ── complete ──▶ body ──▶ handler ──▶ answer ──▶ (skipping) ──▶ head
///                            └──────▶ waiting / streaming ──┘      └──▶ lingering ──▶ closed
final class Connection {
  enum Phase {
    /// Between requests, or in the middle of a head.
    case head
    /// The body's bytes are being collected.
    case body
    /// The answer was given without the body; the rest of it is dropped.
    case skipping
    /// A handler answers later.
    case waiting
    case streaming
    /// The last answer is given; what is still queued goes out.
    case flushing
    /// All is sent; the client's bytes are dropped until it closes.
    case lingering
    case closed
  }

  /// What is still to come of the current request's body.
  enum Rest {
    case none
    case length(Int)
    case chunked(ChunkedDecoder)
  }

  let server: Server
  let descriptor: Int32
  /// In the server's list.
  var position: Int
  /// Nanoseconds of the monotonic clock; .max for none.
  private(set) var deadline = UInt64.max

  var phase = Phase.head
  var rest = Rest.none
  /// The request whose head or body is incomplete, or whose answer is awaited.
  var request: Request?
  /// Whoever is to answer keeps the responder; it keeps this connection.
  var waitingResponder: WeakResponder?
  var stream: StreamState?
  var kept = InputBuffer()
  var output = OutputQueue()
  var watch: EventLoop.Watch?
  /// Whether another request may follow the current one.
  var keepsAlive = true
  /// When the head was complete; only kept when somebody wants to know durations.
  var startTime = MonotonicTime(nanoseconds: 0)
  var requestDeadline = UInt64.max
  var dropped = 0
  /// What this connection has counted in `Server.bodyBytes`.
  var chargedBytes = 0
  private var isResuming = false

  init(_ descriptor: Int32, server: Server, position: Int) {
    self.descriptor = descriptor
    self.server = server
    self.position = position
  }

  func start() throws(SystemError) {
    watch = try server.loop.watch(descriptor, .read) { [self] readiness in ready(readiness) }
    setDeadline(after: server.timeouts.head)
  }

  // MARK: Readiness

  private func ready(_ readiness: EventLoop.Readiness) {
    if readiness.contains(.write), !output.isEmpty { flushQueue() }
    if readiness.contains(.read), phase != .closed { receive() }
  }

  private func receive() {
    let count = Socket.receive(descriptor, server.input, Server.inputBytes)
    if count > 0 {
      let bytes = UnsafeBufferPointer(start: UnsafePointer(server.input), count: count)
      if kept.isEmpty {
        let used = process(bytes)
        if used < count, phase != .closed { kept.append(bytes.slice(used..<count)) }
      } else {
        kept.append(bytes)
        processKept()
      }
      finishBatch()
    } else if count == 0 {
      endOfInput()
    } else if errno != EAGAIN {
      close()
    }
  }

  private func processKept() {
    let used = process(kept.bytes)
    if phase == .closed { kept.release() } else { kept.drop(used) }
  }

  /// Goes on with kept bytes in the next turn, from wherever it is called.
  func resumeLater() {
    guard !isResuming, !kept.isEmpty else { return }
    isResuming = true
    server.loop.enqueue { [self] in
      isResuming = false
      guard phase != .closed, !kept.isEmpty else { return }
      processKept()
      finishBatch()
    }
  }

  /// What a batch put together leaves, and the socket is asked for what comes next.
  func finishBatch() {
    flushScratch()
    updateInterest()
    updateDeadline()
  }

  private func endOfInput() {
    switch phase {
    case .body:
      fail(.malformed)
      finishBatch()
    case .head where request?.parser.hasBegun == true:
      fail(.malformed)
      finishBatch()
    case .head, .flushing, .skipping:
      if output.isEmpty { return close() }
      phase = .flushing
      keepsAlive = false
      watch?.interest = .write
    case .waiting, .streaming, .lingering, .closed:
      close()
    }
  }

  // MARK: Interest and deadlines

  private func updateInterest() {
    guard let watch, phase != .closed else { return }
    var interest: EventLoop.Interest = kept.count < Limits.pipelinedBytes ? .read : []
    if phase == .flushing { interest = [] }
    if !output.isEmpty { interest.insert(.write) }
    if watch.interest != interest { watch.interest = interest }
  }

  func updateDeadline() {
    guard phase != .closed else { return }
    switch phase {
    case .head where !output.isEmpty, .skipping, .waiting, .flushing:
      setDeadline(after: server.timeouts.idle)
    case .head where request != nil, .body:
      // Set when the request began.
      if deadline != requestDeadline { setDeadline(at: requestDeadline) }
    case .head:
      setDeadline(after: server.timeouts.keepAlive)
    case .streaming:
      if output.isEmpty { deadline = .max } else { setDeadline(after: server.timeouts.idle) }
    case .lingering, .closed:
      break
    }
  }

  /// - Parameter timeout: in nanoseconds.
  func setDeadline(after timeout: UInt64) {
    setDeadline(at: deadline(after: timeout))
  }

  func deadline(after timeout: UInt64) -> UInt64 {
    let (sum, overflow) = server.loop.now.nanoseconds.addingReportingOverflow(timeout)
    return overflow ? .max : sum
  }

  private func setDeadline(at nanoseconds: UInt64) {
    deadline = nanoseconds
    server.noteDeadline(nanoseconds)
  }

  /// The deadline has passed.
  func expire() {
    switch phase {
    case .body:
      fail(.timedOut)
      finishBatch()
    case .head where request != nil && output.isEmpty:
      fail(.timedOut)
      finishBatch()
    case .head where output.isEmpty:
      // After a stall of the whole program the client may have been in time.
      if kept.isEmpty { receive() } else { resumeLater() }
      guard phase == .head, request == nil, kept.isEmpty, deadline <= server.loop.now.nanoseconds else {
        return updateDeadline()
      }
      close()
    default:
      close()
    }
  }

  func serverStops() {
    keepsAlive = false
    switch phase {
    case .head where request == nil && output.isEmpty: close()
    case .lingering: close()
    case .streaming: stream?.task?.cancel()
    default: break
    }
  }

  // MARK: The end

  /// After the last answer: the rest goes out, then the client gets time to read it.
  func finishAndClose() {
    phase = .flushing
    if server.scratch.owner !== self || server.scratch.count == 0 { closeWhenFlushed() }
  }

  /// A close(2) with unread input makes the kernel send a reset, which may overtake the
  /// answer; so the sending side is closed first and the input dropped for a while.
  func closeWhenFlushed() {
    guard phase == .flushing, output.isEmpty else { return }
    phase = .lingering
    dropped = 0
    shutdown(descriptor, Int32(SHUT_WR))
    setDeadline(after: server.timeouts.linger)
    watch?.interest = .read
  }

  func releaseCharge() {
    server.bodyBytes -= chargedBytes
    chargedBytes = 0
  }

  /// Idempotent. Whoever waits for something of this connection learns that it is gone.
  func close() {
    guard phase != .closed else { return }
    phase = .closed
    deadline = .max
    if server.scratch.owner === self {
      server.scratch.reset()
      server.scratch.owner = nil
    }
    watch?.cancel()
    watch = nil
    Glibc.close(descriptor)
    output.removeAll()
    releaseCharge()
    // While its bytes are being parsed the buffer is released by the caller.
    server.forget(self)
    request = nil
    waitingResponder.take()?.responder?.cancel()
    stream.take()?.abort()
  }
}

struct WeakResponder {
  weak var responder: Responder?
  init(_ responder: Responder) { self.responder = responder }
}
