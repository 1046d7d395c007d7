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

nonisolated extension AgentImage {
  /// Names of the agent's container, today's first.
  static let containerNames = ["balena_supervisor", "resin_supervisor"]

  /// The image that the agent's container was made of, and the names that it had earlier:
  /// `balena/amd64-supervisor` was `resin/amd64-supervisor`. nil for a bare id.
  init?(imageName: String) {
    guard !imageName.hasPrefix("sha256:") else { return nil }
    let name = ImageName(imageName)
    guard let tag = name.tag else { return nil }
    let repository = String(name.repository)
    var repositories: Set = [repository]
    if repository.hasPrefix("balena/") { repositories.insert("resin/\(repository.dropFirst(7))") }
    self.init(repositories: repositories, runningTag: String(tag))
  }
}
