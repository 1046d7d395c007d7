public import Journal
import Model
public import StateEngine

extension StateEngine {
  /// Whose lines the log streams take, by the container's id; of the agent's own container none.
  public var loggedContainers: [String: LoggedContainer] {
    var containers = current.services.mapValues { service in
      LoggedContainer(
        serviceId: service.serviceId, serviceName: service.name,
        level: LoggedContainer.Level(service.config.environment["BALENA_LOGS_LEVEL"]))
    }
    if let ownContainer {
      containers[ownContainer] = LoggedContainer(serviceId: 0, serviceName: "", level: .none)
    }
    return containers
  }
}
