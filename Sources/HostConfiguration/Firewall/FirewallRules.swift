/// The agent's rules of the host's firewall, as text for iptables-restore(8) (host 8).
public nonisolated struct FirewallRules: Sendable, Hashable {
  public enum Family: String, Sendable, CaseIterable { case v4, v6 }

  public enum Mode: String, Sendable {
    case off, on, auto
  }

  public var mode: Mode
  /// The configured port of the API.
  public var port: Int
  /// The real one, where a proxy owns `port`.
  public var portOverride: Int?
  public var isLocalMode: Bool
  /// Some service of the target uses the host's network; only `auto` asks for it.
  public var usesHostNetwork: Bool

  public init(
    mode: Mode, port: Int, portOverride: Int? = nil, isLocalMode: Bool, usesHostNetwork: Bool = false
  ) {
    self.mode = mode
    self.port = port
    self.portOverride = portOverride
    self.isLocalMode = isLocalMode
    self.usesHostNetwork = usesHostNetwork
  }

  static let chain = "BALENA-FIREWALL"
  static let supervisorChain = "BALENA-SUPERVISOR"
  static let interfaces = ["resin-vpn", "tun0", "docker0", "lo", "supervisor0"]
  private static let sshPort = 22222
  private static let enginePort = 2375

  /// What is in the table already, out of iptables-save(8).
  public struct Present: Sendable, Hashable {
    public var hasInputJump = false
    public var hasEngineChain = false
    public var hasEngineJump = false

    public init() {}

    /// - Parameter saved: the table `filter`.
    public init(parsing saved: String) {
      for line in saved.split(separator: "\n") {
        if line == "-A INPUT -j \(FirewallRules.chain)" { hasInputJump = true }
        if line.hasPrefix(":DOCKER-USER ") { hasEngineChain = true }
        if line == "-A DOCKER-USER -j \(FirewallRules.supervisorChain)" { hasEngineJump = true }
      }
    }
  }

  /// One transaction: both own chains are replaced whole, the jumps to them are added when they are
  /// missing, and no chain of anyone else is named.
  public func payload(_ family: Family, present: Present) -> String {
    var lines = ["*filter", ":\(Self.chain) - [0:0]", ":\(Self.supervisorChain) - [0:0]"]
    if !present.hasInputJump { lines.append("-I INPUT 1 -j \(Self.chain)") }
    lines += rules(family).map { "-A \(Self.chain) \($0)" }
    lines += supervisorRules(family).map { "-A \(Self.supervisorChain) \($0)" }
    if family == .v4, present.hasEngineChain, !present.hasEngineJump {
      lines.append("-I DOCKER-USER 1 -j \(Self.supervisorChain)")
    }
    return lines.joined(separator: "\n") + "\nCOMMIT\n"
  }

  private func rules(_ family: Family) -> [String] {
    var rules = [
      "-m state --state ESTABLISHED,RELATED -j ACCEPT",
      "-m addrtype --src-type LOCAL -j ACCEPT",
    ]
    let real = portOverride ?? port
    if portOverride != nil {
      rules.append("-p tcp --dport \(real) -i supervisor0 -j ACCEPT")
    } else if isLocalMode {
      rules.append("-p tcp --dport \(real) -j ACCEPT")
    } else {
      rules += Self.interfaces.map { "-p tcp --dport \(real) -i \($0) -j ACCEPT" }
    }
    rules += [
      "-p tcp --dport \(real) -j REJECT",
      "-p tcp --dport \(Self.sshPort) -j ACCEPT",
      "-p tcp --dport \(Self.enginePort) -j ACCEPT",
      "-m addrtype --dst-type MULTICAST -j ACCEPT",
      "-p \(family == .v4 ? "icmp" : "ipv6-icmp") -j ACCEPT",
      "-p udp --dport 53 -i balena0 -j ACCEPT",
      "-p udp --dport 53 -i br+ -j ACCEPT",
    ]
    if mode == .off || mode == .auto && !usesHostNetwork { rules.append("-j RETURN") }
    rules.append("-j REJECT")
    return rules
  }

  private func supervisorRules(_ family: Family) -> [String] {
    guard family == .v4, portOverride != nil, !isLocalMode else { return [] }
    return ["-p tcp --dport \(port) -i resin-vpn -j ACCEPT", "-p tcp --dport \(port) -j REJECT"]
  }
}
