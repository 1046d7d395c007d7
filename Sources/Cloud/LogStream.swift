import EventLoop
import HTTPClient
import HostConfiguration
import Logging

/// The device's log stream to the cloud: one long POST, opened by the first record, closed after a
/// minute of silence (cloud 4.3).
///
/// Nothing is held for a connection that is not there but `LogQueue`'s few lines: the source of service
/// lines waits in `send(_:)`, so that its backlog stays in the journal. It hears of a position when the
/// cloud's system has acknowledged the bytes up to it, and is sent back to the last one when a connection
/// dies, or further when the cloud's system was there and its program took nothing for a while. What the
/// cloud's system has acknowledged and its program not read is lost when the connection dies otherwise, as
/// the protocol has no acknowledgement of its own.
public final class LogStream {
  private let client: CloudClient
  private let http: HTTPClient
  private let logger: Logger
  private let alarm = Alarm()
  private let followAlarm = Alarm()
  private var queue = LogQueue()
  private var waiting: [CheckedContinuation<Void, Never>] = []
  private var source: (any LogSource)?
  private var following: Task<Void, Never>?
  /// Goes up when the source goes back: what is left of its last batch comes again.
  private var rewinds = 0
  /// Last said to the source.
  private var position: String?
  private var exchange: Exchange?
  private(set) var backOff = BackOff(first: LogStream.firstReconnect, limit: LogStream.reconnectLimit)
  /// Not before is a connection opened; nil for at once.
  private var nextConnection: MonotonicTime?
  private var isCutOff = false
  private var delivered = 0
  private var refused = 0
  var settleTime = LogStream.settleTime
  var stallLimit = LogStream.stallLimit

  /// Between the request's head, which needs a connection, and the first byte of its body, for a refusal to
  /// arrive in.
  static let settleTime = Duration.seconds(5)
  static let idleTime = Duration.seconds(60)
  /// A flush ends a block of gzip: quick for a person who watches, rarer when much is written.
  static let flushInterval = Duration.milliseconds(100)
  static let busyFlushInterval = Duration.milliseconds(1000)
  static let busyBytes = 32 * 1024
  /// Written since the last flush.
  static let unflushedLimit = 128 * 1024
  static let firstReconnect = Duration.seconds(5)
  static let reconnectLimit = Duration.seconds(300)
  /// A cloud that takes nothing for so long is given up; looked at four times as often.
  static let stallLimit = Duration.seconds(60)
  /// Blocks that are remembered until the cloud's system has acknowledged them; beyond it every other.
  static let markLimit = 64
  /// Bytes of gzip between two places to which the source goes back when the cloud has hung: more than
  /// the system keeps for a connection.
  static let checkpointDistance = 4 << 20
  /// Taken from the queue at once.
  private static let batch = 32 * 1024

  private final class Exchange {
    let body = RequestBody(capacity: 32 * 1024)
    let gzip: GzipWriter
    /// nil while there is no connection.
    var headSent: MonotonicTime?
    var isOver = false
    var status: Int?
    var problem: String?
    var advice = RetryAdvice()
    var isClosing = false
    var task: Task<Void, Never>?
    var unflushed = 0
    /// Not yet handed to the connection as a whole block: how many, and events, which are in no journal.
    var pending = 0
    var pendingEvents: [LogRecord] = []
    var pendingPosition: String?
    /// Ends of whole blocks that are not acknowledged, with what stands in each.
    var marks: [(bytes: Int, position: String?, events: [LogRecord])] = []
    var written = 0
    var acknowledged = 0
    /// When more was acknowledged, or there was nothing to be.
    var lastAdvance = MonotonicTime.read()
    var watch: LoopTimer?
    var checkpoints: [(bytes: Int, position: String?)]
    var isStalled = false
    /// The stall is the cloud's program: its system is there, and has no room.
    var isHung = false
    /// The connection was seen to have ended; said when it still has a moment later.
    var isCut = false
    var cutSeen = MonotonicTime.read()
    var lastFlush = MonotonicTime.read()
    var lastRecord = MonotonicTime.read()

    init(_ gzip: GzipWriter, position: String?) {
      self.gzip = gzip
      checkpoints = [(0, position)]
    }

    func forgetPositions() {
      pendingPosition = nil
      for index in marks.indices { marks[index].position = nil }
      checkpoints = [(0, nil)]
    }
  }

  init(_ client: CloudClient, http: HTTPClient, logger: Logger) {
    self.client = client
    self.http = http
    self.logger = logger
  }

  /// Records since the start of the process: those whose bytes went to the cloud, and those that went nowhere.
  public var counters: (sent: Int, dropped: Int) { (delivered, refused + queue.dropped) }

  // MARK: Records

  /// Whether records go anywhere now.
  public var isWanted: Bool {
    let settings = client.settings
    return settings.isProvisioned && settings.bool(.loggingEnabled) && !settings.bool(.localMode)
  }

  /// Takes a system event; never waits.
  public func post(_ record: LogRecord) {
    guard isWanted, record.isForCloud else { return }
    queue.add(record)
    alarm.ring()
  }

  /// Takes a record of the source, waiting while there is no room. Dropped when nobody wants it, or when
  /// the source has gone back meanwhile.
  private func send(_ record: LogRecord, round: Int) async {
    // The settings are asked for each batch; a change of theirs goes back, too.
    while round == rewinds, !queue.hasRoom, !Task.isCancelled {
      await withCheckedContinuation { waiting.append($0) }
    }
    guard round == rewinds, record.isForCloud else { return }
    queue.add(record)
    alarm.ring()
  }

  /// Takes everything of a source from now on, at the stream's pace, and only while it is wanted; a
  /// former source is left.
  public func follow(_ source: any LogSource) {
    following?.cancel()
    self.source?.stop()
    self.source = source
    following = Task {
      while !Task.isCancelled {
        guard isWanted else {
          leaveSource()
          await followAlarm.wait(nil)
          continue
        }
        guard let batch = await source.next() else { continue }
        let round = rewinds
        for (index, record) in batch.records.enumerated() where round == rewinds {
          var record = record
          if index == batch.records.count - 1 { record.position = batch.position }
          await send(record, round: round)
        }
      }
    }
  }

  /// Nothing is wanted of the source; later it begins with what is new then, also when what is under way
  /// arrives or does not.
  private func leaveSource() {
    rewinds += 1
    position = nil
    queue.removeLines()
    exchange?.forgetPositions()
    source?.stop()
  }

  private func rewind(to position: String?) {
    guard let source else { return }
    rewinds += 1
    queue.removeLines()
    self.position = position
    source.rewind(to: position)
    wakeProducers()
  }

  // MARK: The loop

  func run() async {
    while !Task.isCancelled {
      if let exchange, exchange.isOver { end(exchange) }
      guard isWanted else {
        queue.clear()
        wakeProducers()
        if let exchange { close(exchange) }
        await alarm.wait(nil)
        continue
      }
      if queue.isEmpty {
        await idle()
      } else if let exchange = exchange, !exchange.isClosing {
        await pass(to: exchange)
      } else if exchange != nil {
        await alarm.wait(nil)
      } else {
        await connect()
      }
    }
    exchange?.task?.cancel()
    exchange = nil
    // It was meant for a cloud that this device has left.
    queue.clear()
    leaveSource()
    nextConnection = nil
    backOff.succeed()
    isCutOff = false
    wakeProducers()
  }

  /// Nothing to write: flush what is left, then close after a while.
  private func idle() async {
    guard let exchange, !exchange.isClosing else { return await alarm.wait(nil) }
    let now = MonotonicTime.read()
    if exchange.unflushed > 0 {
      let wait = exchange.lastFlush + flushInterval(of: exchange) - now
      if wait > .zero {
        await alarm.wait(wait)
      } else {
        await flush(exchange)
      }
      return
    }
    confirm(exchange)
    if !exchange.marks.isEmpty { return await alarm.wait(Self.busyFlushInterval) }
    let rest = exchange.lastRecord + Self.idleTime - now
    if rest <= .zero { return close(exchange) }
    await alarm.wait(rest, tolerance: .seconds(1))
  }

  private func flushInterval(of exchange: Exchange) -> Duration {
    exchange.unflushed > Self.busyBytes ? Self.busyFlushInterval : Self.flushInterval
  }

  private func pass(to exchange: Exchange) async {
    confirm(exchange)
    let records = queue.take(limit: Self.batch, now: CloudClient.wallClockMilliseconds())
    wakeProducers()
    var text: [UInt8] = []
    for record in records { record.write(to: &text) }
    exchange.pending += records.count
    for record in records {
      if record.isEvent { exchange.pendingEvents.append(record) }
      if let position = record.position { exchange.pendingPosition = position }
    }
    exchange.lastRecord = .read()
    if exchange.unflushed == 0 { exchange.lastFlush = exchange.lastRecord }
    exchange.unflushed += text.count
    await write(exchange.gzip.write(text), to: exchange)
    if exchange.unflushed >= Self.unflushedLimit
      || exchange.lastFlush + flushInterval(of: exchange) <= .read()
    {
      await flush(exchange)
    }
  }

  private func flush(_ exchange: Exchange) async {
    exchange.unflushed = 0
    exchange.lastFlush = .read()
    await write(exchange.gzip.write([], flush: .sync), to: exchange)
    guard !exchange.isOver else { return }
    if exchange.marks.count >= Self.markLimit { merge(&exchange.marks) }
    exchange.marks.append((exchange.written, exchange.pendingPosition, exchange.pendingEvents))
    exchange.pendingPosition = nil
    delivered += exchange.pending
    exchange.pending = 0
    exchange.pendingEvents = []
  }

  /// Each second block counts to the one behind it.
  private func merge(_ marks: inout [(bytes: Int, position: String?, events: [LogRecord])]) {
    var kept: [(bytes: Int, position: String?, events: [LogRecord])] = []
    for (index, mark) in marks.enumerated() {
      if index.isMultiple(of: 2) {
        kept.append(mark)
      } else {
        let former = kept.removeLast()
        kept.append((mark.bytes, mark.position ?? former.position, former.events + mark.events))
      }
    }
    marks = kept
  }

  /// Tells the source what the cloud's system has acknowledged.
  private func confirm(_ exchange: Exchange) {
    guard !exchange.isOver else { return }
    noteCut(exchange)
    guard let acknowledged = exchange.body.acknowledged else { return }
    if acknowledged > exchange.acknowledged {
      exchange.acknowledged = acknowledged
      exchange.lastAdvance = .read()
    }
    let count = exchange.marks.prefix { $0.bytes <= acknowledged }.count
    guard count > 0 else { return }
    let reached = exchange.marks[..<count].last { $0.position != nil }?.position
    exchange.marks.removeFirst(count)
    guard let reached else { return }
    reach(reached)
    guard let last = exchange.checkpoints.last, acknowledged - last.bytes >= Self.checkpointDistance
    else { return }
    exchange.checkpoints = [last, (acknowledged, reached)]
  }

  /// libcurl does not look whether the other side has ended the connection before it sends again. An answer
  /// that came before has a second to be read.
  private func noteCut(_ exchange: Exchange) {
    guard !exchange.isClosing, exchange.body.isCut else { return }
    if !exchange.isCut {
      exchange.isCut = true
      exchange.cutSeen = .read()
    } else if MonotonicTime.read() - exchange.cutSeen >= Self.busyFlushInterval {
      exchange.task?.cancel()
    }
  }

  private func reach(_ place: String) {
    position = place
    source?.delivered(upTo: place)
  }

  private func write(_ bytes: [UInt8], to exchange: Exchange) async {
    guard !bytes.isEmpty else { return }
    if exchange.acknowledged == exchange.written { exchange.lastAdvance = .read() }
    exchange.written += bytes.count
    watch(exchange)
    do throws(ClientError) { try await exchange.body.write(bytes) } catch {
      // An error is the exchange's end; its own task brings the answer that came with it.
      if Task.isCancelled { exchange.isOver = true } else { await exchange.task?.value }
    }
  }

  /// Gives an exchange up of which nothing is acknowledged for too long; looks only while something is
  /// under way.
  private func watch(_ exchange: Exchange) {
    guard exchange.watch?.isScheduled != true else { return }
    exchange.watch = EventLoop.shared.schedule(after: stallLimit / 4, tolerance: .seconds(1)) {
      [weak self, weak exchange] in
      guard let self, let exchange, !exchange.isOver else { return }
      confirm(exchange)
      if exchange.acknowledged >= exchange.written, !exchange.isClosing { return }
      if MonotonicTime.read() - exchange.lastAdvance < stallLimit { return watch(exchange) }
      exchange.isStalled = true
      exchange.isHung = exchange.body.packetsInFlight == 0
      exchange.task?.cancel()
    }
  }

  private func wakeProducers() {
    let resumed = waiting
    waiting = []
    for producer in resumed { producer.resume() }
  }

  // MARK: The connection

  private func connect() async {
    if let end = nextConnection {
      while MonotonicTime.read() < end, !Task.isCancelled, isWanted {
        await alarm.wait(end - .read(), tolerance: .milliseconds(250))
      }
      nextConnection = nil
      return
    }
    guard let gzip = GzipWriter() else {
      logger.error("The log stream cannot be opened: zlib has no memory")
      waitToReconnect(isFailure: true)
      return
    }
    let exchange = Exchange(gzip, position: position)
    self.exchange = exchange
    let endpoint = client.settings.string(.logsEndpoint) ?? client.endpoint
    var request = client.request(
      "POST", CloudAddress.join(endpoint, "device/v2/\(client.uuid)/log-stream"), key: client.deviceKey,
      headers: [("Content-Type", "application/x-ndjson"), ("Content-Encoding", "gzip")], total: nil)
    exchange.body.onConnection = { [weak exchange, alarm] in
      exchange?.headSent = .read()
      alarm.ring()
    }
    request.body = .stream(exchange.body)
    request.acceptsEncodings = false
    // The answer comes at the end; until then `watch` looks after it.
    request.timeouts.firstByte = nil
    exchange.task = Task { [http, alarm] in
      do throws(ClientError) {
        let answer = try await http.send(request)
        exchange.status = answer.status
        exchange.advice = CloudClient.advice(answer.status, answer.headers)
      } catch {
        let failure = CloudClient.failure(error)
        exchange.problem = failure.message
        exchange.advice = failure.advice
      }
      exchange.isOver = true
      alarm.ring()
    }
    await settle(exchange)
    guard self.exchange === exchange, !exchange.isOver, !Task.isCancelled else { return }
    backOff.succeed()
    isCutOff = true
    exchange.lastFlush = .read()
  }

  /// The body's first byte is held back: a refusal that comes at once costs no line. Before there is a
  /// connection nothing is known, however long that takes.
  private func settle(_ exchange: Exchange) async {
    while !exchange.isOver, !Task.isCancelled {
      guard let headSent = exchange.headSent else {
        if !isWanted {
          exchange.task?.cancel()
          self.exchange = nil
          return
        }
        await alarm.wait(nil)
        continue
      }
      let rest = headSent + settleTime - .read()
      if rest <= .zero { return }
      await alarm.wait(rest)
    }
  }

  /// After a stream that was established and cut a short random time, so that a load balancer that cuts all
  /// streams does not get them all back at once.
  private func waitToReconnect(isFailure: Bool, _ advice: RetryAdvice = RetryAdvice()) {
    var random = SystemRandomNumberGenerator()
    let delay =
      isFailure
      ? backOff.fail(advice, using: &random) : Duration.random(.zero...Self.firstReconnect, using: &random)
    nextConnection = .read() + delay
  }

  /// The regular end: the gzip member is finished, the cloud answers 201.
  private func close(_ exchange: Exchange) {
    guard !exchange.isClosing else { return }
    exchange.isClosing = true
    let rest = exchange.gzip.write([], flush: .finish)
    Task {
      await write(rest, to: exchange)
      exchange.lastAdvance = .read()
      exchange.body.finish()
    }
  }

  private func end(_ exchange: Exchange) {
    self.exchange = nil
    exchange.task?.cancel()
    exchange.watch?.cancel()
    let last = exchange.marks.last { $0.position != nil }?.position
    if exchange.isClosing, exchange.status == 201 {
      if let last { reach(last) }
      return
    }
    if exchange.status == 401 {
      // After a refusal of the key nothing is sent again.
      refused += exchange.pending
      if let last { reach(last) }
    } else {
      queue.putBack(exchange.marks.flatMap(\.events) + exchange.pendingEvents)
      rewind(to: exchange.isHung ? exchange.checkpoints.first?.position : position)
    }
    waitToReconnect(
      isFailure: !isCutOff || exchange.status != nil || exchange.isStalled, exchange.advice)
    isCutOff = false
    if exchange.isCut, exchange.status == nil {
      logger.error("The log stream has ended: the cloud has closed the connection")
    } else if let status = exchange.status {
      logger.error("LogBackend: server responded with status code: \(status)")
    } else if exchange.isStalled {
      logger.error("The log stream has ended: the cloud took nothing for \(stallLimit)")
    } else {
      logger.error("The log stream has ended: \(exchange.problem ?? "connection lost")")
    }
  }

  /// Settings or the endpoint have changed.
  func settingsChanged() {
    // Ends a wait for the source's next records.
    if !isWanted { leaveSource() }
    alarm.ring()
    followAlarm.ring()
    wakeProducers()
  }
}
