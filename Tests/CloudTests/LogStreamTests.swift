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
}
