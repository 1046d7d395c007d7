import JSON

// Replaced by the mapping: the compared configuration of services, networks and volumes.
public nonisolated struct ServiceConfig: Sendable, Hashable {
  public var image: String
  public var isRunning: Bool
  public var labels: [String: String]
  public var environment: [String: String]
  public init(
    image: String, isRunning: Bool = true, labels: [String: String] = [:], environment: [String: String] = [:]
  ) {
    self.image = image
    self.isRunning = isRunning
    self.labels = labels
    self.environment = environment
  }
}
public nonisolated struct NetworkConfig: Sendable, Hashable { public init() {} }
public nonisolated struct VolumeConfig: Sendable, Hashable { public init() {} }
