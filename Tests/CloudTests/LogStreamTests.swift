import EventLoop
import Glibc
import HTTPClient
import HostConfiguration
import JSON
import TestSupport
import Testing

@testable import Cloud

/// Ends of the log stream that come at a bad time (cloud 4.3).
struct LogStreamTests {
  /// Lines that no compression makes shorter, without an end.
  private final class Lines: LogSource {
    private(set) var count = 0
    private(set) var rewinds = 0
    private var random = SystemRandomNumberGenerator()

    func next() async -> LogBatch? {
      count += 1
      await Task.yield()
      let text = (0..<500).map { _ in String(random.next(), radix: 36) }.joined()
      return LogBatch(records: [LogRecord(message: text, timestamp: 1, serviceId: 1)], position: "\(count)")
    }
    func delivered(upTo position: String) {}
    func rewind(to position: String?) { rewinds += 1 }
    func stop() {}
  }

  private func device(_ scheme: String, _ listener: Listener) async throws -> CloudFixture {
    let endpoint = "\(scheme)://127.0.0.1:\(listener.port)"
    return try await CloudFixture(
      #"{"apiEndpoint":"\#(endpoint)","uuid":"ab","deviceApiKey":"key","deviceId":1,"registered_at":1}"#)
  }

  private func stream(_ device: CloudFixture) -> LogStream {
    LogStream(device.client, http: HTTPClient(), logger: quiet)
  }

  @Test func aConnectionThatTakesLongAndFailsIsAFailure() async throws {
    let listener = Listener()
    let device = try await device("https", listener)
    // TLS never comes about.
    try device.settings.setRows([.apiRequestTimeout: .int(1000)])
    let stream = stream(device)
    stream.settleTime = .milliseconds(50)
    stream.post(LogRecord(message: "x", timestamp: 1, isSystem: true, isEvent: true))
    let running = Task { await stream.run() }
    let isNoted = await eventually { stream.backOff.failures == 1 }
    #expect(isNoted)
    running.cancel()
    await running.value
  }

  @Test func loggingThatIsSwitchedOffWaitsForNoConnection() async throws {
    let listener = Listener()
    let device = try await device("https", listener)
    let stream = stream(device)
    stream.post(LogRecord(message: "x", timestamp: 1, isSystem: true, isEvent: true))
    let running = Task { await stream.run() }
    try await Task.sleep(for: .milliseconds(100))
    try device.settings.setRows([.loggingEnabled: false])
    stream.settingsChanged()
    let isDropped = await eventually { stream.counters.dropped == 1 }
    #expect(isDropped)
    #expect(stream.backOff.failures == 0)
    running.cancel()
    await running.value
  }

  @Test(arguments: [401, 503])
  func anAnswerWhileALineWaitsForRoomIsHeard(status: Int) async throws {
    let listener = Listener()
    let device = try await device("http", listener)
    let stream = stream(device)
    stream.settleTime = .zero
    let lines = Lines()
    stream.follow(lines)
    let running = Task { await stream.run() }
    // Nobody reads: at last the source is asked for nothing any more.
    var former = 0
    repeat {
      former = lines.count
      try await Task.sleep(for: .milliseconds(500))
    } while lines.count > former || former == 0
    listener.answer("HTTP/1.1 \(status) x\r\nContent-Length: 0\r\nRetry-After: 600\r\n\r\n")
    let isOver = await eventually { stream.backOff.failures == 1 }
    #expect(isOver)
    // After a refusal of the key nothing is sent again.
    #expect(lines.rewinds == (status == 401 ? 0 : 1))
    running.cancel()
    await running.value
  }
}
