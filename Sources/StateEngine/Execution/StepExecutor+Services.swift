import Engine
import EventLoop
import Glibc
import JSON
import Model

// The life of a service's container (state-engine 7).
extension StepExecutor {
  /// Ids of the app's current containers by service, for `network_mode: service:x`. Of several
  /// containers the newest counts; one that is kept for a way back does not.
  private func containerIds(appId: Int) -> [String: String] {
    var newest: [String: Service] = [:]
    for service in current.services.values
    where service.appId == appId && service.container?.setAsidePolicy == nil {
      if let other = newest[service.name], service.isOlder(than: other) { continue }
      newest[service.name] = service
    }
    return newest.compactMapValues { $0.container?.id }
  }

  private func object(_ service: Service) -> String { "\(service.name) \(service.config.image)" }

  // MARK: Start

  func start(_ target: Service, container: Service.Container?) async throws(StepError) {
    let id: String
    if let container { id = container.id } else { id = try await create(target) }
    // A container that has just been made is younger than the boot: one that asks for a reboot waits.
    guard target.config.isRunning, !(container == nil && target.requiresReboot) else { return }
    try await start(target, containerId: id)
  }

  private func create(_ target: Service) async throws(StepError) -> String {
    let key = CurrentState.ServiceKey(appId: target.appId, service: target.name)
    let request: JSON
    do throws(ModelError) {
      request = try target.createRequest(
        containerIds: containerIds(appId: target.appId), deviceName: host.deviceName)
    } catch {
      report(.serviceInstallError, object: object(target), cause: "\(error)")
      throw .model(error)
    }
    report(.installService, object: object(target))
    current.setStatus(.installing, of: key)
    defer { current.setStatus(nil, of: key) }
    do throws(EngineError) {
      let id = try await createOrReplace(target, request)
      for network in target.networksToConnect {
        try await engine.connectNetwork(network.name, container: id, endpoint: network.endpoint)
      }
      current.invalidate(container: id)
      report(.serviceInstalled, object: object(target))
      return id
    } catch {
      report(.serviceInstallError, object: object(target), cause: error.message)
      if error.isNotFound { current.invalidateImages() }
      throw .engine(error)
    }
  }

  /// Creates the container. One of the same name and app that was never started is a leftover of
  /// a creation that was cut short: it may lack networks, so it is made again.
  private func createOrReplace(_ target: Service, _ request: JSON) async throws(EngineError) -> String {
    do throws(EngineError) {
      return try await engine.createContainer(name: target.containerName, body: request).id
    } catch  where error.isConflict {
      let conflict = error
      do throws(EngineError) {
        let existing = try await engine.inspectContainer(target.containerName)
        guard existing["State"]?["Status"]?.stringValue == "created", let id = existing["Id"]?.stringValue,
          existing["Config"]?["Labels"]?["io.balena.app-id"]?.stringValue == "\(target.appId)"
        else { throw conflict }
        try await engine.removeContainer(id, force: true, volumes: true)
      } catch  where error.isNotFound {}
      return try await engine.createContainer(name: target.containerName, body: request).id
    }
  }

  private func start(_ target: Service, containerId id: String) async throws(StepError) {
    report(.startService, object: object(target))
    current.setStatus(.starting, container: id)
    defer { current.setStatus(nil, container: id) }
    do throws(EngineError) {
      if try await engine.startContainer(id) == .started { report(.serviceStarted, object: object(target)) }
    } catch {
      var error = error
      if error.statusCode == 500, error.message.hasSuffix("exec format error") {
        error = EngineError(
          kind: error.kind, call: error.call,
          message: "Application architecture incompatible with \(host.deviceType): exec format error")
      }
      report(.serviceStartError, object: object(target), cause: error.message)
      throw .engine(error)
    }
  }

  // MARK: Stop

  func stop(_ service: Service, thenRemove: Bool) async throws(StepError) {
    guard let id = service.container?.id else { return }
    report(.killService, object: object(service))
    // Killed before its time, it hands over to nobody.
    handovers.removeValue(forKey: id)?.cancel()
    current.setStatus(.stopping, container: id)
    defer { if current.services[id] != nil { current.setStatus(nil, container: id) } }
    do throws(EngineError) {
      switch try await engine.stopContainer(id, containerTimeout: service.config.stopGracePeriod) {
      case .stopped: break
      case .alreadyStopped: if thenRemove { report(.serviceAlreadyStopped, object: object(service)) }
      case .notFound:
        report(.serviceAlreadyGone, object: object(service))
        return current.forget(container: id)
      }
      if thenRemove {
        do throws(EngineError) { try await engine.removeContainer(id, force: false, volumes: true) } catch
          where error.isNotFound
        {}
        current.forget(container: id)
      }
      report(.serviceStopped, object: object(service))
    } catch {
      report(.serviceStopError, object: object(service), cause: error.message)
      throw .engine(error)
    }
  }

  func removeDead(_ service: Service) async throws(StepError) {
    guard let id = service.container?.id else { return }
    report(.removeDeadContainer, object: object(service))
    defer { current.invalidate(container: id) }
    do throws(EngineError) {
      try await engine.removeContainer(id, force: false, volumes: true)
    } catch  where error.isNotFound {
      return
    } catch {
      report(.removeDeadContainerError, object: object(service), cause: error.message)
      throw .engine(error)
    }
  }

  // MARK: Rename

  func rename(_ service: Service, to target: Service) async throws(StepError) {
    guard let id = service.container?.id else { return }
    defer { current.invalidate(container: id) }
    handovers.removeValue(forKey: id)?.cancel()
    try await call { () throws(EngineError) in
      do throws(EngineError) {
        if service.isHandingOver {
          let policy: JSON = ["Name": .string(target.config.restart)]
          _ = try await engine.updateContainer(id, body: ["RestartPolicy": policy])
        }
        // The name comes last: as long as it says so, the container is known not to be back in full.
        try await engine.renameContainer(id, to: target.containerName)
      } catch  where error.isNotFound {
        do throws(EngineError) { try await engine.removeContainer(id, force: true, volumes: false) } catch
          where error.isNotFound
        {}
      }
    }
  }

  // MARK: Hand-over

  private static let handoverFiles = ["handover-complete", "resin-kill-me"]
  private static let handoverPoll = Duration.milliseconds(100)

  /// Starts the new container beside the old one. When either of the hand-over files appears,
  /// or the time is over, the old one's id leaves `handovers` and the planner has it killed.
  func handOver(_ old: Service, to target: Service) async throws(StepError) {
    guard let container = old.container else { return }
    let directory = host.serviceDirectory(appId: target.appId, service: target.name)
    for file in Self.handoverFiles { unlink("\(directory)/\(file)") }
    try await call { () throws(EngineError) in
      // Not to come back after a power cut. Without a name the engine would keep the old policy.
      _ = try await engine.updateContainer(container.id, body: ["RestartPolicy": ["Name": "no"]])
      if !old.isHandingOver {
        try await engine.renameContainer(container.id, to: "old_\(container.name)")
      }
    }
    current.invalidate(container: container.id)
    handovers[container.id] = Task { [self] in
      await waitForHandover(in: directory, timeout: target.handoverTimeout)
      guard !Task.isCancelled else { return }
      handovers[container.id] = nil
      onHandover()
    }
    do throws(StepError) {
      try await start(target, container: nil)
    } catch {
      handovers.removeValue(forKey: container.id)?.cancel()
      throw error
    }
  }

  private func waitForHandover(in directory: String, timeout: Duration) async {
    let deadline = MonotonicTime.read() + timeout
    while !Task.isCancelled, MonotonicTime.read() < deadline {
      for file in Self.handoverFiles where unlink("\(directory)/\(file)") == 0 { return }
      do { try await EventLoop.shared.sleep(for: Self.handoverPoll) } catch { return }
    }
  }
}
