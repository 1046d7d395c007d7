import HTTPClient
import JSON

extension EngineClient {
  /// - Parameters:
  ///   - references: `repo` or `repo:tag`, or patterns; one must match. None: all images.
  ///   - isDangling: only images with (or without) neither tag nor use.
  public func listImages(
    references: [String] = [], digests: Bool = true, isDangling: Bool? = nil
  ) async throws(EngineError) -> [ImageSummary] {
    var query: [(String, String)] = digests ? [("digests", "true")] : []
    let filters = ["reference": references, "dangling": isDangling.map { [String($0)] } ?? []]
    if let filter = filterParameter(filters) { query.append(filter) }
    let call = Call(method: "GET", path: "/images/json", query: query)
    return try list(await json(call), of: call).compactMap(ImageSummary.init)
  }

  /// - Parameter name: a reference, a digest reference or an id; slashes go as they are.
  /// - Throws: 404 when there is no such image.
  public func inspectImage(_ name: String) async throws(EngineError) -> JSON {
    try await json(Call(method: "GET", path: "/images/\(PercentEncoding.path(name))/json"))
  }

  /// Starts a pull. Its progress is read from the result; the pull is complete when that ends
  /// without an error, and given up when it is dropped or the reading task is cancelled.
  public func pullImage(
    _ reference: PullReference, credentials: RegistryCredentials? = nil
  ) async throws(EngineError) -> PullStream {
    let call = Call(
      method: "POST", path: "/images/create",
      query: [("fromImage", reference.repository), ("tag", reference.tag)],
      headers: credentials.map { [("X-Registry-Auth", $0.header)] } ?? [], timeouts: EngineTimeouts.pull)
    return PullStream(try await lines(call), call: call.name)
  }

  /// Makes an image of a root file system, as `docker import` does.
  ///
  /// - Parameters:
  ///   - archive: tar, maybe compressed.
  ///   - changes: Dockerfile instructions, such as `CMD ["sh"]`.
  /// - Returns: the image's id.
  public func importImage(
    _ archive: ClientRequest.Body, repository: String, tag: String = "latest", changes: [String] = []
  ) async throws(EngineError) -> String {
    let call = Call(
      method: "POST", path: "/images/create",
      query: [("fromSrc", "-"), ("repo", repository), ("tag", tag)] + changes.map { ("changes", $0) },
      headers: [("Content-Type", "application/x-tar")], body: archive, timeouts: EngineTimeouts.pull)
    let stream = PullStream(try await lines(call), call: call.name)
    var id: String?
    while let event = try await stream.next() { id = event.status }
    guard let id else { throw malformed(call, "no image id") }
    return id
  }

  /// Gives an image one more name.
  public func tagImage(_ id: String, repository: String, tag: String) async throws(EngineError) {
    try await send(
      Call(
        method: "POST", path: "/images/\(PercentEncoding.path(id))/tag",
        query: [("repo", repository), ("tag", tag)], timeouts: EngineTimeouts.change))
  }

  /// Removes a name, and the image with its last name.
  ///
  /// - Throws: 404 when there is none, 409 when a container or another image needs it.
  public func removeImage(_ name: String, force: Bool = false) async throws(EngineError) {
    try await send(
      Call(
        method: "DELETE", path: "/images/\(PercentEncoding.path(name))",
        query: force ? [("force", "true")] : [], timeouts: EngineTimeouts.removal))
  }

  /// Removes images without a name (`dangling`), or all that no container uses.
  ///
  /// - Returns: bytes set free.
  @discardableResult
  public func pruneImages(isDangling: Bool = true) async throws(EngineError) -> Int {
    let filter = filterParameter(["dangling": [String(isDangling)]])
    let call = Call(
      method: "POST", path: "/images/prune", query: filter.map { [$0] } ?? [],
      timeouts: EngineTimeouts.removal)
    return try await json(call)["SpaceReclaimed"]?.intValue ?? 0
  }
}
