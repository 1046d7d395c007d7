import CSystemd
import EventLoop
import Glibc

/// What happened to one request.
public nonisolated struct Exchange: Sendable {
  public let method: String
  /// Without the query, which may hold a key.
  public let path: String
  public let status: Int
  /// Of the answer, its head included.
  public let byteCount: Int
  /// From the first byte of the request to the last byte handed to the socket.
  public let duration: Duration
}

/// An HTTP/1.1 server on the event loop.
public final class Server {
  public struct Configuration {
    /// From a request's first byte, or a connection's begin, to the end of the head.
    public var headTimeout = Duration.seconds(60)
    /// From a request's head to the end of its body.
    public var requestTimeout = Duration.seconds(300)
    /// Of a connection between two requests.
    public var keepAliveTimeout = Duration.seconds(5)
    /// Without a byte in either direction, while an answer is made or sent.
    public var idleTimeout = Duration.seconds(900)
    /// For a refused client to read the answer.
    public var drainTimeout = Duration.seconds(2)

    public init() {}
  }

  static let readBufferBytes = 64 * 1024
  /// Taken from a listener in one turn.
  private static let acceptsPerTurn = 64
  /// The sweep looks no more often than this, so a timeout may come so much late.
  private static let sweepGranularity = Duration.seconds(1)

  let configuration: Configuration
  let pipeline: Pipeline
  let readBuffer = UnsafeMutableRawPointer.allocate(byteCount: Server.readBufferBytes, alignment: 16)
  let output = OutputBuffer()
  /// Bodies that are being received, in all connections together.
  var bodyBytes = 0
  private(set) var isStopping = false

  private(set) var spareRequest = Request()
  private var connections: [ObjectIdentifier: Connection] = [:]
  private var listeners: [(descriptor: Int32, watch: EventLoop.Watch, path: String?)] = []
  private var spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
  private var sweepTimer: LoopTimer?
  private var nextSweep: MonotonicTime?
  private var stopped: CheckedContinuation<Void, Never>?
  private var dateSecond = 0
  private(set) var date = ResponseHead.noDate

  public init(configuration: Configuration = Configuration(), pipeline: Pipeline) {
    self.configuration = configuration
    self.pipeline = pipeline
  }

  public var connectionCount: Int { connections.count }

  // MARK: Listening

  /// Begins to accept on a socket.
  ///
  /// - Throws: an error that names the address and the system's reason.
  public func listen(on socket: ListenSocket) throws(ListenError) {
    let descriptor = try socket.open()
    do throws(SystemError) {
      let watch = try EventLoop.shared.watch(descriptor, .read) { [unowned self] _ in accept(descriptor) }
      var path: String?
      if case .unix(let file) = socket { path = file }
      listeners.append((descriptor, watch, path))
    } catch {
      close(descriptor)
      throw ListenError(socket: socket, cause: error)
    }
  }

  /// The port of the first TCP listener, when the system chose it.
  public var port: UInt16? {
    guard let descriptor = listeners.first?.descriptor else { return nil }
    var address = sockaddr_in6()
    var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
    let status = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    // The port stands at the same place in both families.
    return status == 0 ? UInt16(bigEndian: address.sin6_port) : nil
  }

  private func accept(_ listener: Int32) {
    for _ in 0..<Self.acceptsPerTurn {
      let descriptor = csystemd_accept(listener)
      guard descriptor >= 0 else {
        if errno == EMFILE || errno == ENFILE { refuseWithSpareDescriptor(listener) }
        return
      }
      guard connections.count < Limits.connections else {
        refuse(descriptor)
        continue
      }
      var one: Int32 = 1
      setsockopt(
        descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
      let connection = Connection(server: self, descriptor: descriptor)
      do throws(SystemError) {
        try connection.begin()
        connections[ObjectIdentifier(connection)] = connection
        note(deadline: connection.deadline)
      } catch {
        close(descriptor)
      }
    }
  }

  /// Out of descriptors: one that was kept for this lets us accept, say so and close. Without
  /// it the listener would stay ready and the loop would spin.
  private func refuseWithSpareDescriptor(_ listener: Int32) {
    if spareDescriptor >= 0 { close(spareDescriptor) }
    let descriptor = csystemd_accept(listener)
    if descriptor >= 0 { refuse(descriptor) }
    spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
  }

  private func refuse(_ descriptor: Int32) {
    let head = ResponseHead.bytes(
      Response.Plain(status: 503), length: .exactly(0), keepsAlive: false, date: currentDate)
    _ = head.bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    shutdown(descriptor, Int32(SHUT_WR))
    close(descriptor)
  }

  // MARK: Connections

  func remove(_ connection: Connection) {
    connections[ObjectIdentifier(connection)] = nil
    if connections.isEmpty { stopped.take()?.resume() }
  }

  /// The spare request went into a connection's hands; the next one gets a new one.
  func takeSpareRequest() { spareRequest = Request() }

  func noteFinished(_ request: Request, status: Int, byteCount: Int, start: MonotonicTime) {
    guard let onFinish = pipeline.onFinish else { return }
    onFinish(
      Exchange(
        method: request.methodText, path: request.path, status: status, byteCount: byteCount,
        duration: EventLoop.shared.now - start))
  }

  // MARK: Timeouts

  /// One timer serves all connections; it is armed only while there are some.
  func note(deadline: MonotonicTime?) {
    guard let deadline, nextSweep.map({ deadline < $0 }) ?? true else { return }
    let now = EventLoop.shared.now
    let delay = max(deadline - now, .zero)
    nextSweep = now + delay
    if let sweepTimer {
      sweepTimer.restart(after: delay)
    } else {
      sweepTimer = EventLoop.shared.schedule(after: delay, tolerance: Self.sweepGranularity) {
        [unowned self] in sweep()
      }
    }
  }

  private func sweep() {
    nextSweep = nil
    let now = EventLoop.shared.now
    var earliest: MonotonicTime?
    for connection in Array(connections.values) {
      guard let deadline = connection.deadline else { continue }
      if deadline <= now { connection.expire() }
      if let deadline = connection.deadline, deadline > now {
        earliest = min(earliest ?? deadline, deadline)
      }
    }
    guard let earliest, !connections.isEmpty else { return }
    note(deadline: max(earliest, now + Self.sweepGranularity))
  }

  // MARK: Date

  /// The time of the second, as every answer carries it (RFC 9110, section 6.6.1).
  func writeDate(into target: UnsafeMutableRawPointer) {
    let bytes = currentDate
    bytes.withUnsafeBytes {
      target.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(target), byteCount: $0.count)
    }
  }

  private var currentDate: [UInt8] {
    var second = time(nil)
    guard second != dateSecond else { return date }
    dateSecond = second
    var parts = tm()
    gmtime_r(&second, &parts)
    date = HTTPDate.bytes(parts)
    return date
  }

  // MARK: Stopping

  /// Stops accepting, lets running requests end, and returns when all connections are closed.
  /// Asked again, it does nothing.
  public func stop() async {
    guard !isStopping else { return }
    isStopping = true
    for listener in listeners {
      listener.watch.cancel()
      close(listener.descriptor)
      if let path = listener.path { unlink(path) }
    }
    listeners = []
    for connection in Array(connections.values) {
      if connection.isIdle { connection.close() } else { connection.finishSoon() }
    }
    if !connections.isEmpty { await withCheckedContinuation { stopped = $0 } }
  }
}

/// `Thu, 01 Jan 1970 00:00:00 GMT` (RFC 9110, section 5.6.7).
nonisolated enum HTTPDate {
  private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  static func bytes(_ time: tm) -> [UInt8] {
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let day = days[Int(time.tm_wday) % 7]
    let month = months[Int(time.tm_mon) % 12]
    let year = String(1900 + Int(time.tm_year))
    let clock = "\(two(time.tm_hour)):\(two(time.tm_min)):\(two(time.tm_sec))"
    return Array("\(day), \(two(time.tm_mday)) \(month) \(year) \(clock) GMT".utf8)
  }
}
