import Database
import HTTPClient
import HostConfiguration
import JSON
import Logging

/// Tells a cloud that the device has just joined what is configured on it (cloud 1.6).
///
/// One variable that the cloud refuses does not hold up the others, and nothing waits for this: only a
/// missing answer makes the whole block be tried again.
///
/// What is configured is noted in the database before the first target of the cloud changes it, so that an
/// agent that is started again meanwhile tells the same.
struct FirstContact {
  private let client: CloudClient
  private let store: Store
  private unowned let host: any CloudHost
  private let logger: Logger

  static let noteKey = "firstContactConfiguration"

  init(_ client: CloudClient, store: Store, host: any CloudHost, logger: Logger) {
    self.client = client
    self.store = store
    self.host = host
    self.logger = logger
  }

  var isDue: Bool { client.settings.string(.initialConfigReported) ?? "" != client.endpoint }

  /// Configuration of the device by bare name, as it was before the first target of this cloud.
  func configuration() -> [String: String] {
    do throws(DatabaseError) {
      if let text = try store.settings.text(Self.noteKey), let note = try? JSON(parsing: text),
        note["endpoint"]?.stringValue == client.endpoint, note["uuid"]?.stringValue == client.uuid,
        let noted = note["configuration"]?.objectValue
      {
        return Dictionary(noted.compactMap { name, value in value.stringValue.map { (name, $0) } }) { $1 }
      }
      let configuration = host.currentConfiguration
      let note: JSON = [
        "endpoint": .string(client.endpoint), "uuid": .string(client.uuid),
        "configuration": JSON(configuration),
      ]
      try store.settings.set(Self.noteKey, to: note.serialized())
      return configuration
    } catch {
      logger.error("Cannot note what is configured before the first target: \(error)")
      return host.currentConfiguration
    }
  }

  /// - Parameters:
  ///   - configuration: of the device by bare name.
  ///   - target: configuration of the target state, by full name.
  func report(_ configuration: [String: String], target: [String: String]) async throws(CloudFailure) {
    let settings = client.settings
    let asker = client.identity
    let deviceId = settings.int(.deviceId)
    let known = DeviceConfiguration.bareNames(target)
    var current = configuration
    current[DeviceVariable.localMode] = "false"
    current[DeviceVariable.vpnControl] = "true"
    for (name, value) in current.sorted(by: { $0.key < $1.key }) where known[name] == nil {
      let variable = DeviceVariable.table.first { $0.name == name }
      if value.isEmpty { continue }
      if let variable, variable.isEqual(value, variable.defaultText) { continue }
      let answer = try await client.send(
        "POST", CloudAddress.resolve("/v7/device_config_variable", on: client.base), key: client.deviceKey,
        body: ["value": .string(value), "device": .int(deviceId), "name": .string("RESIN_\(name)")])
      try client.check(asker)
      if answer.isSuccess || answer.status == 409 { continue }
      let failure = client.failure(answer, of: "POST /v7/device_config_variable")
      guard failure.isRefusal, answer.status != 401 else { throw failure }
      logger.warning("The cloud does not take the variable \(name): \(failure)")
    }
    await reportName(deviceId: deviceId)
    try client.check(asker)
    do throws(SettingError) {
      try settings.setRows([.initialConfigReported: .string(client.endpoint)])
    } catch {
      throw CloudFailure("cannot store that the configuration is reported: \(error)")
    }
    do throws(DatabaseError) { try store.settings.remove(Self.noteKey) } catch {
      logger.debug("The note of what was configured is kept: \(error)")
    }
  }

  private func reportName(deviceId: Int) async {
    guard let name = client.settings.string(.initialDeviceName), !name.isEmpty else { return }
    do throws(CloudFailure) {
      _ = try await client.succeed(
        "PATCH", CloudAddress.resolve("/v7/device(\(deviceId))", on: client.base), key: client.deviceKey,
        body: ["device_name": .string(name)])
    } catch {
      logger.error("\(error)")
      host.systemLog("Unable to report initial device name to API", isError: true)
    }
  }
}

/// Pins a preloaded device to the release that it was preloaded with (cloud 5.3).
struct PinnedRelease {
  private let client: CloudClient
  private let logger: Logger

  init(_ client: CloudClient, logger: Logger) {
    self.client = client
    self.logger = logger
  }

  func apply() async throws(CloudFailure) {
    guard let pin = client.settings.storedValue(of: .pinDevice) else { return }
    guard let app = pin["app"]?.intValue, let commit = pin["commit"]?.stringValue else {
      logger.error("The device is not pinned: pinDevice has no app or no commit")
      return try forget()
    }
    let asker = client.identity
    let filter =
      "belongs_to__application%20eq%20\(app)%20and%20commit%20eq%20\(CloudAddress.literal(commit))"
      + "%20and%20status%20eq%20\(CloudAddress.literal("success"))"
    let url = CloudAddress.resolve("/v7/release?$filter=\(filter)&$select=id", on: client.base)
    let rows = try await client.rows(url, key: client.deviceKey)
    try client.check(asker)
    guard let release = rows.first?["id"]?.intValue else {
      logger.warning("The device is not pinned: the cloud has no release \(commit) of fleet \(app)")
      return try forget()
    }
    // The cloud must know the device as ours before it is changed.
    let uuid = client.uuid
    let state = try await client.succeed(
      "GET", CloudAddress.resolve("/device/v3/\(uuid)/state", on: client.base), key: client.deviceKey,
      limit: TargetPoller.bodyLimit)
    try client.check(asker)
    guard (try? JSON(parsing: state.body))?[uuid]?["config"]?.objectValue != nil else {
      throw CloudFailure("the target state has no configuration for this device")
    }
    let id = client.settings.int(.deviceId)
    _ = try await client.succeed(
      "PATCH", CloudAddress.resolve("/v7/device(\(id))", on: client.base), key: client.deviceKey,
      body: ["is_pinned_on__release": .int(release)])
    logger.notice("The device is pinned to release \(commit)")
    try forget()
  }

  private func forget() throws(CloudFailure) {
    do throws(SettingError) {
      try client.settings.setRows([.pinDevice: .null])
    } catch {
      throw CloudFailure("cannot forget pinDevice: \(error)")
    }
  }
}
