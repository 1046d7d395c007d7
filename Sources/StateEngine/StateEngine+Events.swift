import Engine
import EventLoop
import Model

// What the engine tells by itself.
extension StateEngine {
  func listen() async {
    let events = engine.events(filters: ["type": ["container", "image", "network", "volume"]])
    while let item = await events.next() {
      switch item {
      case .connected, .gap:
        current.invalidate()
        wake.set()
      case .disconnected:
        current.invalidate()
        wake.set()
      case .event(let event):
        if current.note(event) { wakeForEvent() }
        noteExit(event)
      }
    }
  }

  func wakeForEvent() {
    guard eventTimer?.isScheduled != true else { return }
    eventTimer = EventLoop.shared.schedule(after: Self.eventWindow) { [unowned self] in wake.set() }
  }

  /// Tells the user of services that ended by themselves, and of their restarts (7.5).
  func noteExit(_ event: EngineEvent) {
    guard event.type == "container" else { return }
    // It is known no more by now.
    if event.action == "destroy" { diedContainers.remove(event.id) }
    guard let service = current.services[event.id], let container = service.container else { return }
    let object = "\(service.name) \(service.config.image)"
    switch event.action {
    case "die":
      // One that the agent stops does not restart.
      if container.status != .stopping { diedContainers.insert(event.id) }
      host?.report(
        .serviceExit, text: SystemEvent.serviceExit.text(object: object, cause: nil), isError: false)
    case "start" where diedContainers.remove(event.id) != nil && container.status != .starting:
      counters.serviceRestarts += 1
      host?.report(
        .serviceRestart, text: SystemEvent.serviceRestart.text(object: object, cause: nil), isError: false)
    default: break
    }
  }
}
