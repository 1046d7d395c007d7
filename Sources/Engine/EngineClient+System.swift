import JSON

extension EngineClient {
  /// Whether the engine answers at all; the error says why not.
  public func ping() async throws(EngineError) {
    try await send(Call(method: "GET", path: "/_ping"))
  }

  public func version() async throws(EngineError) -> VersionInfo {
    let call = Call(method: "GET", path: "/version")
    guard let version = VersionInfo(try await json(call)) else {
      throw malformed(call, "no Version or ApiVersion")
    }
    return version
  }

  /// Everything the engine says about itself and its host.
  public func info() async throws(EngineError) -> JSON {
    try await json(Call(method: "GET", path: "/info"))
  }

  /// What happens on the engine, without end: lost connections are made again.
  ///
  /// - Parameters:
  ///   - filters: such as `["type": ["container"]]` (API, `GET /events`).
  ///   - since: seconds since 1970 of the first event wanted; nil begins now.
  public func events(filters: [String: [String]] = [:], since: Double? = nil) -> EngineEvents {
    EngineEvents(self, filters: filters, since: since)
  }
}
