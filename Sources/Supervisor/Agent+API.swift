import Cloud
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
  public var isHealthy: Bool {
    settings.isUnmanaged || (stateEngine?.isAlive ?? true) && (cloud?.isAlive ?? true)
  }

  // MARK: Facts

  public var deviceFacts: DeviceFacts { networkFacts.facts }

  public var deviceFactsRevision: UInt64 {
    networkFacts.refresh(listenPort: ports.known, osVersion: facts.releaseField("PRETTY_NAME"))
    return networkFacts.revision
  }

  // MARK: Update

  public var areInstantUpdatesEnabled: Bool { settings.bool(.instantUpdates) }

  public func update(force: Bool, cancel: Bool) {
    guard settings.isProvisioned else { return }
    cloud?.update(force: force, cancel: cancel)
  }

  public func globalKeyChanged() { cloud?.stateChanged() }

  // MARK: Tags

  public func deviceTags() async throws(HostFailure) -> [DeviceTag] {
    guard !settings.isUnmanaged else {
      throw HostFailure("Attempt to communicate with API, without initialized client")
    }
    guard settings.int(.deviceId) != 0 else {
      throw HostFailure("Attempt to retrieve device tags before provision")
    }
    guard let cloud else { throw HostFailure("No connection to the API") }
    do throws(CloudFailure) {
      return try await cloud.tags().map { DeviceTag(id: $0.id, name: $0.name, value: $0.value) }
    } catch {
      throw HostFailure(error.message)
    }
  }

  public func setDeviceTags(_ tags: [String: String]) throws(HostFailure) {
    do throws(SettingError) { try cloud?.setTags(tags) } catch { throw HostFailure(error.description) }
  }

  // MARK: VPN

  public func vpnStatus() async throws(HostFailure) -> VPNStatus { try await host.vpnStatus() }

  public var hostControl: (any HostControl)? { host }
}
