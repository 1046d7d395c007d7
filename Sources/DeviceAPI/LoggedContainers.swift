public import Journal
import Model
public import StateEngine

extension StateEngine {
  /// Whose lines the log streams take, by the container's id.
  public var loggedContainers: [String: LoggedContainer] {
    current.services.mapValues { service in
      LoggedContainer(
        serviceId: service.serviceId, serviceName: service.name,
        level: LoggedContainer.Level(service.config.environment["BALENA_LOGS_LEVEL"]))
    }
  }
}
