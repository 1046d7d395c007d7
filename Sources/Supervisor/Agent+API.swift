import Database
import DeviceAPI
import EventLoop
import Glibc
import HostConfiguration
import JSON
import Logging
import StateEngine

// What the API asks of the device.

extension Agent: @MainActor DeviceAPIHost {
  /// Asked at every request, so the setting is not read at every request: a change by the agent
  /// counts at once, one by another program within a second.
  public var isAuthorizationRequired: Bool {
    let now = EventLoop.shared.now.nanoseconds
    if let known = authorization, now &- known.readAt < 1_000_000_000 { return known.isRequired }
    let isRequired = !isLocalMode
    authorization = (now, isRequired)
    return isRequired
  }

  func forgetAuthorization() { authorization = nil }

  public var version: String { AgentVersion.text }
  public var architecture: String { facts.architecture }

  /// An unmanaged device is always healthy (http-api 7).
  public var isHealthy: Bool { settings.isUnmanaged || stateEngine?.isAlive ?? true }

  // MARK: Facts

  public var deviceFacts: DeviceFacts { networkFacts.facts }

  public var deviceFactsRevision: UInt64 {
    networkFacts.refresh(
      listenPort: settings.int(.listenPort), osVersion: facts.osRelease?["PRETTY_NAME"])
    return networkFacts.revision
  }

  // MARK: Update

  public var areInstantUpdatesEnabled: Bool { settings.bool(.instantUpdates) }

  public func update(force: Bool, cancel: Bool) {
    guard settings.isProvisioned else { return }
    stateEngine?.trigger(force: force, cancel: cancel)
  }

  public func globalKeyChanged() {}

  // MARK: Tags

  public func deviceTags() async throws(HostFailure) -> [DeviceTag] {
    guard !settings.isUnmanaged else {
      throw HostFailure("Attempt to communicate with API, without initialized client")
    }
    guard settings.int(.deviceId) != 0 else {
      throw HostFailure("Attempt to retrieve device tags before provision")
    }
    throw HostFailure("No connection to the API")
  }

  public func setDeviceTags(_ tags: [String: String]) throws(HostFailure) {
    let reported = settings.stringMap(.reportedTags)
    var wanted = settings.stringMap(.targetTags)
    for (name, value) in tags where wanted[name] != nil || reported[name] != value { wanted[name] = value }
    do throws(SettingError) { try settings.set([.targetTags: JSON(wanted)]) } catch {
      throw HostFailure(error.description)
    }
  }

  // MARK: VPN

  public func vpnStatus() async throws(HostFailure) -> VPNStatus {
    throw HostFailure("No connection to the system bus \(paths.systemBusAddress)")
  }
}

extension Settings {
  fileprivate func stringMap(_ key: SettingKey) -> [String: String] {
    var map: [String: String] = [:]
    for (name, value) in self.value(of: key)?.objectValue ?? [:] { map[name] = value.stringValue }
    return map
  }
}
