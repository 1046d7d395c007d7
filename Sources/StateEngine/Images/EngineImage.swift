/// An image as the engine lists it (`GET /images/json?digests=true`).
public nonisolated struct EngineImage: Sendable, Hashable {
  public var id: String
  public var repoTags: [String]
  public var repoDigests: [String]

  public init(id: String, repoTags: [String] = [], repoDigests: [String] = []) {
    self.id = id
    self.repoTags = repoTags
    self.repoDigests = repoDigests
  }

  /// Neither tags nor digests; the engine may write `<none>` for either.
  public var isDangling: Bool {
    !repoTags.contains { !$0.hasPrefix("<none>") } && !repoDigests.contains { !$0.hasPrefix("<none>") }
  }
}

/// The agent's own image, when it runs in a container.
public nonisolated struct AgentImage: Sendable, Hashable {
  /// The repository and its legacy names.
  public var repositories: Set<String>
  public var runningTag: String

  public init(repositories: Set<String>, runningTag: String) {
    self.repositories = repositories
    self.runningTag = runningTag
  }
}
