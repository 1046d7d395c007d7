import Engine
import JSON
import Model

// Keeping a container while its successor proves itself, and bringing it back.
extension StepExecutor {
  /// Stopped first: killed in between, the agent finds a container that it can set aside again, or
  /// start again. The name comes before the policy, which it keeps.
  func setAside(_ service: Service) async throws(StepError) {
    guard let id = service.container?.id else { return }
    try await stop(service, thenRemove: false)
    guard current.services[id] != nil else { return }
    defer { current.invalidate(container: id) }
    try await call { () throws(EngineError) in
      try await engine.renameContainer(id, to: service.setAsideName)
      try await engine.updateContainer(id, body: ["RestartPolicy": ["Name": "no"]])
    }
  }

  /// The name comes last: as long as it says so, the container is known not to be back in full.
  func restore(_ service: Service) async throws(StepError) {
    guard let id = service.container?.id else { return }
    defer { current.invalidate(container: id) }
    let before = service.beforeSetAside
    try await call { () throws(EngineError) in
      try await engine.updateContainer(id, body: ["RestartPolicy": ["Name": .string(before.config.restart)]])
    }
    try await start(before, container: service.container)
    try await call { () throws(EngineError) in
      try await engine.renameContainer(id, to: service.containerName)
    }
  }
}
