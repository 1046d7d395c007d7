import Model

/// The agent's own app (state-engine 3.8): a host updater runs it, never the planner.
public nonisolated enum AgentApp {
  /// One app per architecture: amd64, aarch64, armv7hf, i386, rpi.
  public static let uuids: Set<String> = [
    "52e35121417640b1b28a680504e4039b",
    "900de4f3cbac4b9bbd232885a35e407b",
    "2e66a95795c149959c69472a8c2f92b8",
    "531b357e155c480cbec0fdd33041a1f5",
    "6822565f766e413e96d9bebe2227cdcc",
  ]
  public static let serviceNames: Set<String> = ["main", "balena-supervisor", "core"]

  /// Whether a service, or a stored image's use, is the agent itself.
  public static func includes(appUuid: String?, service: String) -> Bool {
    guard let appUuid else { return false }
    return uuids.contains(appUuid) && serviceNames.contains(service)
  }
}

nonisolated extension App {
  /// The services that are planned: not the agent's own, and of a host app only those that are
  /// services with their image in the data store.
  var plannedServices: [Service] {
    services.filter { service in
      if AgentApp.includes(appUuid: uuid ?? service.appUuid, service: service.name) { return false }
      guard isHost else { return true }
      let labels = service.config.labels
      return (labels["io.balena.image.class"] ?? "service") == "service"
        && (labels["io.balena.image.store"] ?? "data") == "data"
    }
  }
}
