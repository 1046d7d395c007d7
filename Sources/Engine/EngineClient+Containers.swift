import HTTPClient
import JSON

/// What a created container is known by, and what the engine did not like about it.
public nonisolated struct CreatedContainer: Hashable, Sendable {
  public let id: String
  public let warnings: [String]
}

public nonisolated enum StartOutcome: Hashable, Sendable {
  case started
  /// 304
  case alreadyRunning
}

public nonisolated enum StopOutcome: Hashable, Sendable {
  case stopped
  /// 304
  case alreadyStopped
  /// 404
  case notFound
}

extension EngineClient {
  /// - Parameters:
  ///   - all: stopped ones too.
  ///   - labels: `name` or `name=value`; all must match.
  public func listContainers(
    all: Bool = true, labels: [String] = []
  ) async throws(EngineError) -> [ContainerSummary] {
    var query = [("all", all ? "1" : "0")]
    if let filter = filterParameter(["label": labels]) { query.append(filter) }
    let call = Call(method: "GET", path: "/containers/json", query: query)
    return try list(await json(call), of: call).compactMap(ContainerSummary.init)
  }

  /// - Throws: 404 when there is no such container.
  public func inspectContainer(_ id: String) async throws(EngineError) -> JSON {
    try await json(Call(method: "GET", path: "\(container(id))/json"))
  }

  /// - Throws: 404 when the image is missing, 409 when the name is taken.
  public func createContainer(name: String, body: JSON) async throws(EngineError) -> CreatedContainer {
    let call = Call("POST", "/containers/create", query: [("name", name)], json: body)
    let answer = try await json(call)
    guard let id = answer["Id"]?.stringValue else { throw malformed(call, "no Id") }
    return CreatedContainer(id: id, warnings: strings(answer["Warnings"]))
  }

  public func startContainer(_ id: String) async throws(EngineError) -> StartOutcome {
    let call = Call(method: "POST", path: "\(container(id))/start", timeouts: EngineTimeouts.change)
    return try await send(call, alsoAccepting: [304]).status == 304 ? .alreadyRunning : .started
  }

  /// Sends the container's stop signal, waits, kills it.
  ///
  /// - Parameters:
  ///   - seconds: time before the kill; nil leaves it to the container's `StopTimeout`.
  ///   - containerTimeout: that `StopTimeout` in seconds, if it is more than the usual 10, so
  ///     that the call waits long enough.
  public func stopContainer(
    _ id: String, within seconds: Int? = nil, containerTimeout: Int = 10
  ) async throws(EngineError) -> StopOutcome {
    let own = Duration.seconds(max(seconds ?? containerTimeout, 10))
    let call = Call(
      method: "POST", path: "\(container(id))/stop", query: seconds.map { [("t", String($0))] } ?? [],
      timeouts: EngineTimeouts.stop(after: own))
    return switch try await send(call, alsoAccepting: [304, 404]).status {
    case 304: .alreadyStopped
    case 404: .notFound
    default: .stopped
    }
  }

  /// - Throws: 409 when the container does not run.
  public func killContainer(_ id: String, signal: String = "SIGKILL") async throws(EngineError) {
    try await send(
      Call(
        method: "POST", path: "\(container(id))/kill", query: [("signal", signal)],
        timeouts: EngineTimeouts.change))
  }

  /// - Throws: 409 when the name is taken.
  public func renameContainer(_ id: String, to name: String) async throws(EngineError) {
    try await send(
      Call(
        method: "POST", path: "\(container(id))/rename", query: [("name", name)],
        timeouts: EngineTimeouts.change))
  }

  /// Changes resources or the restart policy of an existing container.
  ///
  /// - Returns: the engine's warnings.
  @discardableResult
  public func updateContainer(_ id: String, body: JSON) async throws(EngineError) -> [String] {
    strings(try await json(Call("POST", "\(container(id))/update", json: body))["Warnings"])
  }

  /// - Parameters:
  ///   - force: kill it first if it runs.
  ///   - volumes: with its anonymous volumes.
  /// - Throws: 404 when it is gone already, 409 when it runs or is being removed.
  public func removeContainer(
    _ id: String, force: Bool = false, volumes: Bool = true
  ) async throws(EngineError) {
    var query: [(String, String)] = []
    if volumes { query.append(("v", "true")) }
    if force { query.append(("force", "true")) }
    try await send(
      Call(method: "DELETE", path: container(id), query: query, timeouts: EngineTimeouts.change))
  }

  /// Waits without limit until the container has stopped.
  ///
  /// - Returns: its exit status.
  public func waitForContainer(_ id: String) async throws(EngineError) -> Int {
    let call = Call(method: "POST", path: "\(container(id))/wait", timeouts: EngineTimeouts.endless)
    guard let status = try await json(call)["StatusCode"]?.intValue else {
      throw malformed(call, "no StatusCode")
    }
    return status
  }

  private func container(_ id: String) -> String { "/containers/\(PercentEncoding.path(id))" }

  func list(_ json: JSON, of call: Call) throws(EngineError) -> [JSON] {
    if json.isNull { return [] }
    guard let list = json.arrayValue else { throw malformed(call, "not a list") }
    return list
  }

  func malformed(_ call: Call, _ reason: String) -> EngineError {
    EngineError(kind: .malformedAnswer, call: call.name, message: "unexpected answer: \(reason)")
  }
}
