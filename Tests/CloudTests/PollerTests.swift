import EventLoop
import HTTPClient
import JSON
import TestSupport
import Testing

@testable import Cloud

/// Polls of the target state (cloud 2, 9.2).
struct PollerTests {
  private let config =
    #"{"apiEndpoint":"http://127.0.0.1:9","uuid":"ab","deviceApiKey":"key","deviceId":1,"registered_at":1}"#

  private func poller(_ device: CloudFixture) -> TargetPoller {
    TargetPoller(device.client, store: device.store, host: device, logger: quiet)
  }

  @Test func aLinkThatIsNotYetToPollNeverHangs() async throws {
    LoopDriver.start()
    let device = try await CloudFixture(config)
    let poller = poller(device)
    #expect(poller.isAlive(at: .read() + .seconds(86_400)))
    let polling = Task { await poller.run() }
    let isRunning = await eventually { !poller.isAlive(at: .read() + .seconds(86_400)) }
    #expect(isRunning)
    #expect(poller.isAlive())
    polling.cancel()
    await polling.value
    #expect(poller.isAlive(at: .read() + .seconds(86_400)))
  }

  @Test func aTargetOfACloudThatTheDeviceHasLeftMeanwhileDoesNotCount() async throws {
    let listener = Listener()
    let device = try await CloudFixture(
      config.replacing("http://127.0.0.1:9", with: "http://127.0.0.1:\(listener.port)"))
    let polling = Task { await poller(device).run() }
    let isAsked = await eventually { listener.isAsked }
    #expect(isAsked)
    await device.join(config)
    listener.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    try await Task.sleep(for: .milliseconds(300))
    #expect(device.taken.isEmpty)
    polling.cancel()
    await polling.value
  }

  private func answer(_ body: String) -> CloudAnswer {
    CloudAnswer(status: 200, headers: HeaderFields(), body: Array(body.utf8))
  }

  @Test func anInvalidTargetWithoutATagIsRejectedOnceUntilAnotherCame() async throws {
    let device = try await CloudFixture(config)
    let poller = poller(device)
    func take(_ body: String) throws {
      try poller.take(answer(body), endpoint: "http://127.0.0.1:9", uuid: "ab", asked: nil)
    }
    device.refusal = .invalid
    try take(#"{"ab":1}"#)
    try take(#"{"ab":1}"#)
    #expect(device.refused == 1)
    device.refusal = nil
    try take(#"{"ab":2}"#)
    #expect(device.taken == [["ab": 2]])
    device.refusal = .invalid
    try take(#"{"ab":1}"#)
    #expect(device.refused == 2)
  }
}
