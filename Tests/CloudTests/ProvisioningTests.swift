import HTTPClient
import HostConfiguration
import TestSupport
import Testing

@testable import Cloud

/// What is asked of the cloud and what follows from its answers (cloud 1.3 to 1.5).
struct ProvisioningTests {
  typealias Attempt = ProvisioningAttempt

  private func inputs(
    key: Bool = true, application: Int? = 7, deviceId: Int? = nil, isRegistered: Bool = false,
    uuid: String = "ab"
  ) -> Attempt.Inputs {
    Attempt.Inputs(
      uuid: uuid, hasProvisioningKey: key, applicationId: application, deviceId: deviceId,
      isRegistered: isRegistered)
  }

  /// Feeds the answers in turn; what was asked, and how it ended.
  private func run(_ inputs: Attempt.Inputs, _ answers: Attempt.Answer...) -> (
    [Attempt.Request], Attempt.Step
  ) {
    var attempt = Attempt(inputs)
    var asked: [Attempt.Request] = []
    var answers = answers[...]
    while case .send(let request) = attempt.next, let answer = answers.popFirst() {
      asked.append(request)
      attempt.receive(answer)
    }
    return (asked, attempt.next)
  }

  private func failure(_ step: Attempt.Step) -> Attempt.Failure? {
    if case .failed(let failure) = step { failure } else { nil }
  }

  @Test func aNewDeviceRegistersOnce() {
    let (asked, end) = run(inputs(), .device(5))
    #expect(asked == [.register])
    #expect(end == .done(deviceId: 5, isNew: true))
  }

  @Test func aPreRegisteredDeviceAsksNothing() {
    let (asked, end) = run(inputs(key: false, deviceId: 5, isRegistered: true))
    #expect(asked.isEmpty)
    #expect(end == .done(deviceId: 5, isNew: false))
  }

  @Test func aRegisteredDeviceWithAProvisioningKeyExchangesItOnce() {
    let (asked, end) = run(
      inputs(deviceId: 5, isRegistered: true), .unknown, .device(5), .keyAdded)
    #expect(asked == [.lookUpWithDeviceKey, .lookUpWithProvisioningKey, .addDeviceKey(deviceId: 5)])
    #expect(end == .done(deviceId: 5, isNew: false))
  }

  private func config(_ port: Int, key: String) -> String {
    #"{"apiEndpoint":"http://127.0.0.1:\#(port)","uuid":"ab","deviceApiKey":"key","apiKey":"\#(key)","applicationId":7}"#
  }

  @Test(arguments: [true, false])
  func anAnswerOfACloudThatTheDeviceHasLeftMeanwhileIsNotKept(isSaid: Bool) async throws {
    let listener = Listener()
    let device = try await CloudFixture(config(listener.port, key: "first"))
    let provisioner = Provisioner(device.client, host: device, logger: quiet)
    let running = Task { await provisioner.run() }
    let isAsked = await eventually { listener.isAsked }
    #expect(isAsked)
    await device.join(config(9, key: "second"), isSaid: isSaid)
    listener.answer("HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{\"id\":5}")
    try await Task.sleep(for: .milliseconds(300))
    await device.settings.reloadConfigFile()
    #expect(device.settings.string(.apiKey) == "second")
    #expect(device.settings.int(.deviceId) == 0)
    #expect(device.settings.int(.registeredAt) == 0)
    running.cancel()
    await running.value
  }

  @Test func aTakenUuidWithAValidKeyIsOurOwnLostAnswer() {
    let (asked, end) = run(inputs(), .taken, .device(9))
    #expect(asked == [.register, .lookUpWithDeviceKey])
    #expect(end == .done(deviceId: 9, isNew: true))
  }

  @Test func aTakenUuidThatNeitherKeyFindsIsInDoubt() {
    let (_, end) = run(inputs(), .taken, .unknown, .unknown)
    #expect(failure(end)?.isUnknown == true)
  }

  @Test func aRegisteredDeviceWithAnIdIsNeverInDoubt() {
    let (_, end) = run(inputs(deviceId: 5, isRegistered: true), .unknown, .unknown)
    #expect(failure(end)?.isUnknown == false)
  }

  @Test func withoutAProvisioningKeyAnUnknownDeviceNeedsAnOperator() {
    let (_, end) = run(inputs(key: false, isRegistered: true), .unknown)
    #expect(failure(end)?.message.contains("Required a provisioning key in exchangeKeyAndGetDevice") == true)
    #expect(failure(end)?.isUnknown == false)
  }

  @Test func whatIsMissingInConfigJsonIsNamed() {
    #expect(
      failure(Attempt(inputs(key: false)).next)?.message == "Cannot provision without a provisioning api key")
    #expect(
      failure(Attempt(inputs(application: nil)).next)?.message == "Cannot provision without an application id"
    )
    #expect(failure(Attempt(inputs(uuid: "")).next)?.message == "Cannot provision without a uuid")
  }

  @Test(arguments: [nil, 400, 500, 502, 503])
  func aFailedRegistrationKeepsTheIdentity(status: Int?) {
    let (_, end) = run(inputs(), .failed("text", status: status))
    #expect(failure(end) == .init(message: "text"))
  }

  @Test(arguments: [401, 403])
  func aRefusedProvisioningKeyIsToldApart(status: Int) {
    let (_, end) = run(inputs(), .failed("text", status: status))
    #expect(failure(end)?.isKeyRefused == true)
  }

  @Test func noAnswerWithoutADefiniteNoEverDoubtsTheIdentity() {
    var random = SeededGenerator(1)
    let answers: [Attempt.Answer] = [
      .device(5), .unknown, .taken, .keyAdded, .failed("x", status: nil), .failed("x", status: 500),
      .failed("x", status: 401),
    ]
    for _ in 0..<20_000 {
      var attempt = Attempt(
        inputs(
          key: .random(using: &random), deviceId: Bool.random(using: &random) ? 5 : nil,
          isRegistered: .random(using: &random)))
      var given: [Attempt.Answer] = []
      for _ in 0..<6 {
        guard case .send = attempt.next, let answer = answers.randomElement(using: &random) else { break }
        given.append(answer)
        attempt.receive(answer)
      }
      if case .send = attempt.next { Issue.record("no end after \(given)") }
      if failure(attempt.next)?.isUnknown == true {
        #expect(given.suffix(2) == [.unknown, .unknown], "\(given)")
      }
    }
  }

  @Test func anIdentityIsGivenUpAfterThreeAnswersAndTenMinutesOnly() {
    var doubt = IdentityDoubt()
    var unknown: Bool
    unknown = doubt.unknown(at: .seconds(0))
    #expect(!unknown)
    unknown = doubt.unknown(at: .seconds(599))
    #expect(!unknown)
    unknown = doubt.unknown(at: .seconds(599))
    #expect(!unknown)
    unknown = doubt.unknown(at: .seconds(600))
    #expect(unknown)
    doubt = IdentityDoubt()
    unknown = doubt.unknown(at: .seconds(0))
    #expect(!unknown)
    unknown = doubt.unknown(at: .seconds(10_000))
    #expect(!unknown)
    unknown = doubt.unknown(at: .seconds(10_001))
    #expect(unknown)
    doubt.clear()
    unknown = doubt.unknown(at: .seconds(20_000))
    #expect(!unknown)
  }

  @Test func delaysStayForFiveTriesAndThenGrowToTenMinutes() {
    var random = SeededGenerator(2)
    var delay = ProvisioningDelay()
    let base = Duration.seconds(30)
    let bounds: [Int64] = [30, 30, 30, 30, 30, 60, 120, 240, 480, 600, 600]
    for bound in bounds {
      let wait = delay.fail(base: base, isKeyRefused: false, using: &random)
      #expect(wait >= .seconds(bound) && wait <= .seconds(bound) * 1.2)
    }
    delay.succeed()
    let first = delay.fail(base: base, isKeyRefused: false, using: &random)
    #expect(first <= .seconds(36))
    let refused = delay.fail(base: base, isKeyRefused: true, using: &random)
    #expect(refused >= .seconds(600))
    let advised = delay.fail(
      base: base, isKeyRefused: false, advice: RetryAdvice(after: .seconds(100)), using: &random)
    #expect(advised >= .seconds(100) && advised <= .seconds(120))
  }
}
