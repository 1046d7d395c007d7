import CSystemd
import EventLoop
import Glibc

/// An HTTP/1.1 server on the event loop (specification, http-api 2.1).
///
/// What connections share lives here, because only one of them runs at a time: the buffer that
/// sockets are read into, the buffer in which answers are put together, one request
/// object to be used again, the clock's text, and the one timer. An idle connection
/// therefore costs its object and the kernel's socket, nothing else.
///
/// The timer is armed for the earliest deadline of all connections and not touched when a
/// deadline moves away: when it fires too early it looks once through the connections and is
/// armed again. Without connections that have a deadline there is no timer.
public final class Server {
  public nonisolated struct Configuration: Sendable {
    /// Until the last byte of the head, from the first one or from the connection's start.
    public var headTimeout = Duration.seconds(60)
    /// Until the last byte of the body, from the first byte of the head.
    public var requestTimeout = Duration.seconds(300)
    /// Between an answer and the next request.
    public var keepAliveTimeout = Duration.seconds(5)
    /// Without a byte in either direction while an answer is awaited or sent. Streams are
    /// exempt while the client takes what there is.
    public var idleTimeout = Duration.seconds(900)
    /// For a client that is still sending after its last answer.
    public var lingerTimeout = Duration.seconds(5)
    /// For answers that are outstanding when the server stops.
    public var stopTimeout = Duration.seconds(10)
    /// Open at the same time.
    public var connectionLimit = Limits.connections
    public init() {}
  }

  /// Numbers for diagnosis.
  public nonisolated struct Counters: Hashable, Sendable {
    public var open = 0
    public var accepted = 0
    public var refused = 0
    public var timedOut = 0
    public var requests = 0
    public init() {}
  }

  /// The configuration's times in nanoseconds, ready to be added.
  nonisolated struct Timeouts {
    let head, request, keepAlive, idle, linger: UInt64

    init(_ configuration: Configuration) {
      head = configuration.headTimeout.clampedNanoseconds
      request = configuration.requestTimeout.clampedNanoseconds
      keepAlive = configuration.keepAliveTimeout.clampedNanoseconds
      idle = configuration.idleTimeout.clampedNanoseconds
      linger = configuration.lingerTimeout.clampedNanoseconds
    }
  }

  public let configuration: Configuration
  let timeouts: Timeouts
  public internal(set) var counters = Counters()
  /// Told of faults that are not a client's, such as a lack of descriptors.
  public var onTrouble: ((String) -> Void)?

  let loop = EventLoop.shared
  let router: Router
  private let inputMemory = RawMemory<UInt8>(capacity: Server.inputBytes)
  let scratch: OutputScratch
  /// Bodies being received, in all connections together.
  var bodyBytes = 0
  private(set) var isStopping = false
  private var listeners: [Listener] = []
  /// What is to be listened on again.
  private var suspended: [ListenSocket] = []
  private var connections: [Connection] = []
  private var spareRequest: Request?
  private var timer: LoopTimer?
  /// When the timer fires, in nanoseconds of the monotonic clock.
  private var timerDue = UInt64.max
  private var hook: EventLoop.Hook?
  private var unflushed: [Connection] = []
  private var stopWaiter: CheckedContinuation<Void, Never>?

  static let inputBytes = 64 * 1024
  /// Deadlines are kept to about this; later is cheaper, because wake-ups coalesce.
  private static let timerTolerance = Duration.milliseconds(250)

  public init(configuration: Configuration = Configuration(), pipeline: Pipeline) {
    self.configuration = configuration
    timeouts = Timeouts(configuration)
    router = Router(pipeline)
    scratch = OutputScratch(keepAlive: configuration.keepAliveTimeout)
  }

  var input: UnsafeMutablePointer<UInt8> { inputMemory.base }

  /// Starts listening; may be called for several sockets.
  @discardableResult
  public func listen(on socket: ListenSocket) throws(ListenError) -> Listener {
    let listener = try Listener(socket, server: self)
    listeners.append(listener)
    if hook == nil { hook = loop.beforeSleep { [weak self] in self?.flushStreams() } }
    return listener
  }

  /// The port of the first listener, for one that was asked for as 0.
  public var port: UInt16? { listeners.first?.port }

  var hasTimer: Bool { timer?.isScheduled == true }

  public var connectionCount: Int { connections.count }

  /// Stops accepting until `resume()`; requests that run are answered. Sockets that somebody else
  /// made stay open, and their clients wait.
  public func suspend() {
    guard suspended.isEmpty, !isStopping else { return }
    suspended = listeners.map(\.socket)
    for listener in listeners where !listener.isPassed { listener.close() }
    for listener in listeners where listener.isPassed { listener.isAccepting = false }
    listeners.removeAll { !$0.isPassed }
  }

  /// Accepts again, on the same addresses.
  ///
  /// - Throws: when an address is taken; it may be tried again.
  public func resume() throws(ListenError) {
    for listener in listeners { listener.isAccepting = true }
    while let socket = suspended.last {
      if case .descriptor = socket {} else { try listen(on: socket) }
      suspended.removeLast()
    }
  }

  /// Stops accepting, ends streams and idle connections, and lets running requests end.
  public func stop() async {
    guard !isStopping else { return }
    isStopping = true
    for listener in listeners { listener.close() }
    listeners = []
    for connection in connections { connection.serverStops() }
    if !connections.isEmpty {
      let limit = loop.schedule(after: configuration.stopTimeout) { self.closeAll() }
      await withCheckedContinuation { stopWaiter = $0 }
      limit.cancel()
    }
    hook?.cancel()
    hook = nil
    timer?.cancel()
  }

  private func closeAll() {
    for connection in connections { connection.close() }
  }

  // MARK: Connections

  func adopt(_ descriptor: Int32, isTCP: Bool) {
    guard connections.count < configuration.connectionLimit, !isStopping else { return refuse(descriptor) }
    if isTCP { Socket.setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1) }
    let connection = Connection(descriptor, server: self, position: connections.count)
    do {
      try connection.start()
    } catch {
      onTrouble?("watching a connection: \(error.reason)")
      Glibc.close(descriptor)
      return
    }
    connections.append(connection)
    counters.accepted += 1
    counters.open = connections.count
  }

  /// Says that there is no room and closes.
  func refuse(_ descriptor: Int32) {
    counters.refused += 1
    let text: StaticString =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    _ = Socket.send(descriptor, text.utf8Start, text.utf8CodeUnitCount)
    Glibc.close(descriptor)
  }

  func forget(_ connection: Connection) {
    let position = connection.position
    guard position < connections.count, connections[position] === connection else { return }
    let last = connections.removeLast()
    if last !== connection {
      connections[position] = last
      last.position = position
    }
    counters.open = connections.count
    guard connections.isEmpty else { return }
    timer?.cancel()
    timerDue = .max
    stopWaiter.take()?.resume()
  }

  // MARK: Requests to be used again

  func takeRequest() -> Request { spareRequest.take() ?? Request() }

  /// The request has been begun. One that somebody kept gets its own copy of the head; one that
  /// nobody kept is the next one.
  @inline(__always)
  func giveBack(_ request: inout Request) {
    guard isKnownUniquelyReferenced(&request) else { return request.detach() }
    guard spareRequest == nil else { return }
    request.reset()
    spareRequest = request
  }

  // MARK: Deadlines

  /// - Parameter deadline: nanoseconds of the monotonic clock.
  @inline(__always)
  func noteDeadline(_ deadline: UInt64) {
    if deadline < timerDue { armTimer(deadline) }
  }

  private func armTimer(_ deadline: UInt64) {
    timerDue = deadline
    guard deadline != .max else {
      timer?.cancel()
      return
    }
    let now = MonotonicTime.read().nanoseconds
    let delay = Duration.nanoseconds(Int64(clamping: deadline > now ? deadline - now : 0))
    if let timer {
      timer.restart(after: delay)
    } else {
      timer = loop.schedule(after: delay, tolerance: Self.timerTolerance) { [weak self] in self?.sweep() }
    }
  }

  private func sweep() {
    timerDue = .max
    let now = loop.now.nanoseconds
    var earliest = UInt64.max
    var expired: [Connection] = []
    for connection in connections {
      if connection.deadline <= now {
        expired.append(connection)
      } else {
        earliest = min(earliest, connection.deadline)
      }
    }
    armTimer(min(earliest, timerDue))
    for connection in expired where connection.deadline <= now {
      counters.timedOut += 1
      connection.expire()
    }
  }

  // MARK: Streams

  func flushLater(_ connection: Connection) { unflushed.append(connection) }

  private func flushStreams() {
    guard !unflushed.isEmpty else { return }
    let batch = unflushed
    unflushed.removeAll(keepingCapacity: unflushed.count <= 64)
    for connection in batch { connection.flushStream() }
  }
}
