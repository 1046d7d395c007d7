import Database
import EventLoop
import HTTPClient
import HostConfiguration
import JSON
import Logging

/// Makes the device known to the cloud, and says so to nobody but config.json (cloud 1).
final class Provisioner {
  private let client: CloudClient
  private unowned let host: any CloudHost
  private let logger: Logger
  private var doubt = IdentityDoubt()
  private var delay = ProvisioningDelay()
  private var advice = RetryAdvice()
  /// Called when the device has a new identity, made here.
  var onNewIdentity: () -> Void = {}
  /// Rung some time after config.json has changed.
  let alarm = Alarm()

  /// Socket limit of a registration.
  private static let registerTimeout = Duration.seconds(30)

  init(_ client: CloudClient, host: any CloudHost, logger: Logger) {
    self.client = client
    self.host = host
    self.logger = logger
  }

  private var settings: Settings { client.settings }

  private var isNeeded: Bool { !settings.isProvisioned || settings.string(.apiKey) != nil || hasPin }

  /// The device is to be pinned to the release that it came with.
  var hasPin: Bool { settings.storedValue(of: .pinDevice) != nil }

  /// Returns when the device is provisioned, or the task is cancelled.
  func run() async {
    // All belong to the identity and the cloud that there were.
    doubt.clear()
    delay.succeed()
    alarm.reset()
    while !Task.isCancelled, !settings.isUnmanaged, isNeeded {
      logger.info("Event: Device bootstrap {}")
      advice = RetryAdvice()
      if let failure = await attempt() {
        var random = SystemRandomNumberGenerator()
        let base = Duration.milliseconds(max(Int64(settings.int(.bootstrapRetryDelay)), 1000))
        let wait = delay.fail(
          base: base, isKeyRefused: failure.isKeyRefused, advice: advice, using: &random)
        logger.error(
          "Event: Device bootstrap failed, retrying \(JSON.object(["error": .string(failure.message), "delay": .int(wait.milliseconds)]))"
        )
        if failure.isUnknown,
          doubt.unknown(at: .nanoseconds(Int64(clamping: MonotonicTime.read().nanoseconds)))
        {
          await regenerateIdentity()
          onNewIdentity()
        }
        await alarm.wait(wait, tolerance: wait / 20)
      } else {
        delay.succeed()
        doubt.clear()
        logger.notice("Event: Device bootstrap success {}")
      }
    }
  }

  // MARK: One attempt

  private func attempt() async -> ProvisioningAttempt.Failure? {
    let needed =
      settings.int(.registeredAt) == 0 || settings.int(.deviceId) == 0 || settings.string(.apiKey) != nil
    if needed, let failure = await register() { return failure }
    guard hasPin else { return nil }
    do throws(CloudFailure) {
      try await PinnedRelease(client, logger: logger).apply()
      return nil
    } catch {
      advice = error.advice
      return .init(message: "cannot pin the device to the preloaded release: \(error)")
    }
  }

  private func register() async -> ProvisioningAttempt.Failure? {
    let applicationId = settings.int(.applicationId)
    let deviceId = settings.int(.deviceId)
    var attempt = ProvisioningAttempt(
      .init(
        uuid: client.uuid, hasProvisioningKey: !(settings.string(.apiKey) ?? "").isEmpty,
        applicationId: applicationId == 0 ? nil : applicationId, deviceId: deviceId == 0 ? nil : deviceId,
        isRegistered: settings.int(.registeredAt) != 0))
    let asker = client.identity
    while true {
      switch attempt.next {
      case .send(let request):
        let answer = await send(request)
        if let failure = failure(unless: asker) { return failure }
        attempt.receive(answer)
      case .failed(let failure): return failure
      case .done(let deviceId, let isNew):
        // The file may have changed, and nobody has said so yet.
        await settings.reloadConfigFile()
        if let failure = failure(unless: asker) { return failure }
        return await keep(deviceId: deviceId, isNew: isNew)
      }
    }
  }

  /// Nothing of one cloud may be kept for another one.
  private func failure(unless asker: [String]) -> ProvisioningAttempt.Failure? {
    do throws(CloudFailure) {
      try client.check(asker)
      return nil
    } catch {
      advice = RetryAdvice()
      return .init(message: error.message)
    }
  }

  /// One write: what the cloud knows, and the provisioning key gone.
  private func keep(deviceId: Int, isNew: Bool) async -> ProvisioningAttempt.Failure? {
    var changes: [SettingKey: JSON] = [.deviceId: .int(deviceId), .apiKey: .null]
    if isNew { changes[.registeredAt] = .int(CloudClient.wallClockMilliseconds()) }
    do throws(SettingError) {
      try await settings.set(changes)
      return nil
    } catch {
      return .init(message: "the device is registered, and cannot keep it: \(error)")
    }
  }

  private func send(_ request: ProvisioningAttempt.Request) async -> ProvisioningAttempt.Answer {
    do throws(CloudFailure) {
      switch request {
      case .register: return try await sendRegistration()
      case .lookUpWithDeviceKey: return try await lookUp(key: client.deviceKey)
      case .lookUpWithProvisioningKey: return try await lookUp(key: settings.string(.apiKey) ?? "")
      case .addDeviceKey(let id):
        let url = client.endpoint + "/api-key/device/\(id)/device-key"
        _ = try await client.succeed(
          "POST", url, key: settings.string(.apiKey), body: ["apiKey": .string(client.deviceKey)])
        return .keyAdded
      }
    } catch {
      advice = error.advice
      return .failed(error.message, status: error.status)
    }
  }

  private func sendRegistration() async throws(CloudFailure) -> ProvisioningAttempt.Answer {
    var body: JSONObject = [
      "application": .int(settings.int(.applicationId)), "uuid": .string(client.uuid),
      "device_type": .string(host.deviceType), "api_key": .string(client.deviceKey),
      "supervisor_version": .string(host.version),
    ]
    let facts = host.deviceFields
    for name in ["os_version", "os_variant", "mac_address"] {
      if let text = facts[name]?.stringValue, !text.isEmpty { body[name] = .string(text) }
    }
    let answer = try await client.send(
      "POST", CloudAddress.join(client.endpoint, "device/register"), key: settings.string(.apiKey),
      body: .object(body), timeout: min(Self.registerTimeout, client.requestTimeout),
      total: client.requestTimeout)
    if answer.status == 409 { return .taken }
    guard answer.status == 201 else { throw client.failure(answer, of: "POST /device/register") }
    guard let id = (try? JSON(parsing: answer.body))?["id"]?.intValue else {
      throw CloudFailure("POST /device/register: the answer has no id")
    }
    return .device(id)
  }

  /// Only an empty list, and a refusal of the key, are a definite no.
  private func lookUp(key: String) async throws(CloudFailure) -> ProvisioningAttempt.Answer {
    let filter = "uuid%20eq%20" + CloudAddress.literal(client.uuid)
    let url = CloudAddress.resolve("/v7/device?$select=id&$filter=\(filter)", on: client.base)
    let answer = try await client.send("GET", url, key: key, total: client.requestTimeout)
    if [401, 403, 404].contains(answer.status) { return .unknown }
    guard answer.status == 200 else { throw client.failure(answer, of: "GET /v7/device") }
    guard let rows = (try? JSON(parsing: answer.body))?["d"]?.arrayValue else {
      throw CloudFailure("GET /v7/device: the answer is no OData list")
    }
    guard let row = rows.first else { return .unknown }
    guard let id = row["id"]?.intValue else { throw CloudFailure("GET /v7/device: a row without id") }
    return .device(id)
  }

  // MARK: Identity

  /// The former identity is kept beside the database, so that an operator can give it back.
  private func regenerateIdentity() async {
    let former: JSON = [
      "uuid": .string(client.uuid), "deviceApiKey": .string(client.deviceKey),
      "givenUpAt": .int(CloudClient.wallClockMilliseconds()),
    ]
    let path = host.formerIdentityPath
    do throws(FileError) {
      var all = (try? DurableFile.read(path)).flatMap { try? JSON(parsing: $0) }?.arrayValue ?? []
      all.append(former)
      try DurableFile.makeDirectories(for: path)
      try DurableFile.write(JSON.array(Array(all.suffix(16))).bytes(), to: path, keepsMode: false)
    } catch {
      logger.error("The identity is kept: a copy of it cannot be written to \(path): \(error)")
      return
    }
    do throws(SettingError) {
      try await settings.set([
        .uuid: .string(RandomKey.hexadecimal(byteCount: Settings.identityByteCount)),
        .deviceApiKey: .string(RandomKey.hexadecimal(byteCount: Settings.identityByteCount)),
      ])
      doubt.clear()
      logger.warning(
        "The cloud has said for ten minutes that it does not know this device: registering it as a new one; the former identity is in \(path)"
      )
    } catch {
      logger.error("Cannot store a new identity: \(error)")
    }
  }
}

nonisolated extension Settings {
  /// The stored value, nil where there is none or it is invalid.
  @MainActor func storedValue(of key: SettingKey) -> JSON? {
    do throws(SettingError) {
      guard let value = try value(key), !value.isNull else { return Optional.none }
      return value
    } catch {
      return Optional.none
    }
  }
}
