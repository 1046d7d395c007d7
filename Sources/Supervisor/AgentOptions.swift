import CSystemd
import Glibc
public import HostConfiguration

/// What the command line says; each value falls back to its environment variable, then to the
/// default of the specification (host 1.2).
public nonisolated struct AgentOptions: Sendable {
  public var paths = HostPaths.Options()
  public var engine: String?
  public var listen: String?
  public var dbusAddress: String?
  public var journalDirectory: String?
  public var logLevel: String?

  public init() {}

  /// Engine sockets that are looked for when none is named, in this order.
  static let engineSockets = [
    "/var/run/balena-engine.sock", "/run/balena-engine.sock", "/var/run/docker.sock", "/run/docker.sock",
  ]

  /// `unix:///path` or `tcp://host:port`.
  func engineAddress(_ environment: [String: String]) -> String {
    if let engine { return engine }
    if let host = HostPaths.value(of: "DOCKER_HOST", in: environment) { return host }
    if let socket = HostPaths.value(of: "DOCKER_SOCKET", in: environment) { return "unix://\(socket)" }
    let present = Self.engineSockets.first { access($0, F_OK) == 0 }
    return "unix://\(present ?? "/var/run/docker.sock")"
  }

  func listenAddress(_ environment: [String: String]) -> String? {
    listen ?? HostPaths.value(of: "LISTEN_ADDRESS", in: environment)
  }

  func level(_ environment: [String: String]) -> String {
    logLevel ?? HostPaths.value(of: "LOG_LEVEL", in: environment) ?? "info"
  }
}

/// The process's environment variables.
nonisolated func processEnvironment() -> [String: String] {
  var variables: [String: String] = [:]
  guard var entry = csystemd_environment() else { return variables }
  while let text = entry.pointee {
    let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    if pair.count == 2 { variables[String(pair[0])] = String(pair[1]) }
    entry += 1
  }
  return variables
}
