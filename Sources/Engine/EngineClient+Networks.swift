import HTTPClient
import JSON

extension EngineClient {
  // MARK: Networks

  /// - Parameter labels: `name` or `name=value`; all must match.
  public func listNetworks(labels: [String] = []) async throws(EngineError) -> [NetworkSummary] {
    let call = Call(
      method: "GET", path: "/networks", query: filterParameter(["label": labels]).map { [$0] } ?? [])
    return try list(await json(call), of: call).compactMap(NetworkSummary.init)
  }

  /// - Throws: 404 when there is no such network.
  public func inspectNetwork(_ name: String) async throws(EngineError) -> JSON {
    try await json(Call(method: "GET", path: network(name)))
  }

  /// - Parameter body: `Name` and the rest (specification, target-state 6.1).
  /// - Returns: the network's id.
  @discardableResult
  public func createNetwork(_ body: JSON) async throws(EngineError) -> String {
    let call = Call("POST", "/networks/create", json: body)
    guard let id = try await json(call)["Id"]?.stringValue else { throw malformed(call, "no Id") }
    return id
  }

  /// - Throws: 403 when containers are connected, 404 when it is gone already.
  public func removeNetwork(_ name: String) async throws(EngineError) {
    try await send(Call(method: "DELETE", path: network(name), timeouts: EngineTimeouts.change))
  }

  public func connectNetwork(
    _ name: String, container: String, endpoint: JSON = [:]
  ) async throws(EngineError) {
    try await send(
      Call(
        "POST", "\(network(name))/connect",
        json: ["Container": .string(container), "EndpointConfig": endpoint]))
  }

  public func disconnectNetwork(
    _ name: String, container: String, force: Bool = false
  ) async throws(EngineError) {
    try await send(
      Call(
        "POST", "\(network(name))/disconnect",
        json: ["Container": .string(container), "Force": .bool(force)]))
  }

  private func network(_ name: String) -> String { "/networks/\(PercentEncoding.path(name))" }

  // MARK: Volumes

  /// Each volume as the engine describes it: the list has all that an inspection has.
  ///
  /// - Parameter unused: only those that no container mounts, whatever its state.
  public func listVolumes(unused: Bool = false) async throws(EngineError) -> [JSON] {
    let query = filterParameter(["dangling": unused ? ["true"] : []]).map { [$0] } ?? []
    let call = Call(method: "GET", path: "/volumes", query: query)
    return try list(try await json(call)["Volumes"] ?? .null, of: call)
  }

  /// - Throws: 404 when there is no such volume.
  public func inspectVolume(_ name: String) async throws(EngineError) -> JSON {
    try await json(Call(method: "GET", path: volume(name)))
  }

  /// Creates a volume. One of that name and driver that exists is left as it is, and is no error.
  ///
  /// - Parameter body: `Name`, `Driver`, `DriverOpts`, `Labels`.
  @discardableResult
  public func createVolume(_ body: JSON) async throws(EngineError) -> JSON {
    try await json(Call("POST", "/volumes/create", json: body))
  }

  /// - Throws: 404 when it is gone already, 409 when a container uses it.
  public func removeVolume(_ name: String, force: Bool = false) async throws(EngineError) {
    try await send(
      Call(
        method: "DELETE", path: volume(name), query: force ? [("force", "true")] : [],
        timeouts: EngineTimeouts.removal))
  }

  private func volume(_ name: String) -> String { "/volumes/\(PercentEncoding.path(name))" }
}
