import Database
import JSON

/// Values that follow from others (host 2.1), and the identity of the device (host 2.4).
extension Settings {
  /// No cloud: `apiEndpoint` is empty.
  public var isUnmanaged: Bool { (string(.apiEndpoint) ?? "").isEmpty }

  /// The provisioning key, else the device's own.
  public var currentApiKey: String? { string(.apiKey) ?? string(.deviceApiKey) }

  /// The device is registered with a cloud.
  public var isProvisioned: Bool {
    !(string(.uuid) ?? "").isEmpty && !isUnmanaged && int(.registeredAt) != 0 && int(.deviceId) != 0
  }

  /// Base of cloud requests: the override where an external program has set one.
  public var effectiveApiEndpoint: String {
    if let override = string(.apiEndpointOverride), !override.isEmpty { return override }
    return string(.apiEndpoint) ?? ""
  }

  /// As they are set now.
  public var listenPorts: ListenPorts {
    let overriding = int(.listenPortOverride)
    return ListenPorts(known: int(.listenPort), overriding: overriding == 0 ? nil : overriding)
  }

  /// Between two looks at the cloud's target, and the longest back-off. Never so short that what fails is tried
  /// without a pause, whatever the setting says.
  public var pollInterval: Duration { .milliseconds(max(int(.appUpdatePollInterval), 1000)) }

  /// `source` of the apps to enforce (target-state 1.6 and 1.7).
  public var targetSource: String {
    let endpoint = string(.apiEndpoint) ?? ""
    return bool(.localMode) || endpoint.isEmpty ? "local" : endpoint
  }

  /// Bytes of a generated uuid and of a generated device key (32 hexadecimal characters).
  public static let identityByteCount = 16

  /// Generates what is missing of the device's identity: `uuid`, and `deviceApiKey` unless unmanaged.
  public func generateIdentity() async throws(SettingError) {
    var changes: [SettingKey: JSON] = [:]
    if (string(.uuid) ?? "").isEmpty {
      changes[.uuid] = .string(RandomKey.hexadecimal(byteCount: Self.identityByteCount))
    }
    if !isUnmanaged, (string(.deviceApiKey) ?? "").isEmpty {
      changes[.deviceApiKey] = .string(RandomKey.hexadecimal(byteCount: Self.identityByteCount))
    }
    if !changes.isEmpty { try await set(changes) }
  }
}

/// Ports of the API (host 8).
public nonisolated struct ListenPorts: Sendable, Hashable {
  /// Of config.json: the one that others know.
  public let known: Int
  /// The one to listen on where a proxy owns the known one.
  public let overriding: Int?

  /// The one to listen on.
  public var effective: Int { overriding ?? known }
}
