import JSON

/// The network on which services reach the agent's API (target-state 6.5).
public nonisolated enum SupervisorNetwork {
  public static let name = "supervisor0"
  public static let subnet = "10.114.104.0/25"
  public static let gatewayAddress = "10.114.104.1"
  private static let bridgeNameOption = "com.docker.network.bridge.name"

  /// The body of `POST /networks/create`.
  public static var createRequest: JSON {
    [
      "Name": .string(name),
      "Options": [bridgeNameOption: .string(name)],
      "IPAM": [
        "Driver": "default", "Config": [["Subnet": .string(subnet), "Gateway": .string(gatewayAddress)]],
      ],
      "CheckDuplicate": true,
    ]
  }

  /// Whether the network has our bridge name, subnet and gateway.
  public static func isCorrect(_ inspect: JSON) -> Bool { differences(inspect).isEmpty }

  /// What of bridge name, subnet and gateway is not ours.
  public static func differences(_ inspect: JSON) -> [Difference] {
    let pool = inspect["IPAM"]?["Config"]?.arrayValue?.first
    let bridge = inspect["Options"]?[bridgeNameOption]
    let fields = [
      ("bridge", bridge, name), ("subnet", pool?["Subnet"], subnet),
      ("gateway", pool?["Gateway"], gatewayAddress),
    ]
    return fields.compactMap { field, value, wanted in
      let current = value?.stringValue
      return current == wanted ? nil : Difference(field: field, current: current ?? "none", target: wanted)
    }
  }

  /// The address of the API host on the network: its gateway, else the first address of a
  /// subnet `….0/16`; nil when neither is known.
  public static func gateway(_ inspect: JSON) -> String? {
    guard let pool = inspect["IPAM"]?["Config"]?.arrayValue?.first else { return nil }
    if let gateway = pool["Gateway"]?.stringValue, !gateway.isEmpty { return gateway }
    let suffix = ".0/16"
    guard let subnet = pool["Subnet"]?.stringValue, subnet.hasSuffix(suffix) else { return nil }
    return subnet.dropLast(suffix.count) + ".1"
  }
}
