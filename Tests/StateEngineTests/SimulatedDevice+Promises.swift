import Database
import Model

@testable import StateEngine

/// What the planner promises of each step; a step that breaks a promise is kept in `violations`.
extension SimulatedDevice {
  mutating func check(_ planned: PlannedStep, _ input: PlannerInput) {
    let step = planned.step
    switch step {
    case .kill(let service), .stop(let service), .updateMetadata(let service, _), .handover(let service, _),
      .setAside(let service), .restore(let service):
      if case .rule(.supervisorNetworkMissing) = planned.reason { break }
      expect(
        input.locks[service.appId]?.contains(service.name) ?? false, "\(step.name) without a lock", planned)
      expect(
        !(userLocks[service.appId]?.contains(service.name) ?? false), "\(step.name) despite a user's lock",
        planned)
      checkKill(planned, service, input)
    case .start(let target, let existing):
      let app = input.target.first { $0.appId == target.appId }
      let services = app?.services ?? []
      if existing == nil {
        expect(input.locks[target.appId]?.contains(target.name) ?? false, "creation without a lock", planned)
      }
      expect(services.allSatisfy { inventory.isPresent(for: $0) }, "start before all images", planned)
      checkOrder(target, services, planned)
      checkComponents(target, app, planned)
    case .removeVolume(let volume):
      expect(!containers.contains { $0.uses(volume) }, "removal of a volume in use", planned)
      if let app = input.target.first(where: { $0.appId == volume.appId }) {
        let wanted = app.volumes.first { $0.name == volume.name }
        expect(
          wanted.map { !volume.differences(to: $0).isEmpty } ?? false, "removal of a wanted volume", planned)
      } else {
        expect(!keepVolumes, "removal of a kept volume", planned)
      }
    case .removeNetwork(let network):
      expect(!containers.contains { $0.uses(network) }, "removal of a network in use", planned)
    case .createNetwork(let network):
      expect(
        !networks.contains { $0.appId == network.appId && $0.name == network.name }, "second network", planned
      )
    case .removeImage(let row, _):
      expect(!keepImages, "removal of a kept image", planned)
      expect(
        !target.flatMap(\.services).contains { StoredImage(for: $0).use == row.use },
        "removal of a wanted image",
        planned)
    default: break
    }
  }

  private mutating func checkKill(_ planned: PlannedStep, _ service: Service, _ input: PlannerInput) {
    let isRemoval =
      switch planned.step {
      case .kill, .setAside: true
      default: false
      }
    guard isRemoval, let app = input.target.first(where: { $0.appId == service.appId }) else {
      return
    }
    let wanted = app.services.first { $0.name == service.name }
    guard (wanted ?? service).updateStrategy == .downloadThenKill else { return }
    if case .rule(.duplicateContainer) = planned.reason { return }
    switch planned.reason {
    case .rule(.handedOver), .rule(.handoverUnwanted), .rule(.proven), .rule(.updateFailed): return
    default: break
    }
    expect(app.services.allSatisfy { inventory.isPresent(for: $0) }, "kill before all images", planned)
  }

  private mutating func checkOrder(_ target: Service, _ services: [Service], _ planned: PlannedStep) {
    for name in target.dependencies.map(\.service) {
      guard let dependency = services.first(where: { $0.name == name }) else { continue }
      let isMet = containers.contains { service in
        service.appId == target.appId && service.name == name && service.commit == dependency.commit
          && (service.container?.status != .installed || !dependency.isRunning)
          && service.container?.status != .dead
      }
      expect(isMet, "start before \(name)", planned)
    }
  }

  private mutating func checkComponents(_ target: Service, _ app: App?, _ planned: PlannedStep) {
    for network in app?.networks ?? [] where target.uses(network) {
      let isThere = networks.contains { $0.appId == network.appId && $0.name == network.name }
      expect(isThere, "start before network \(network.name)", planned)
    }
    for volume in app?.volumes ?? [] where target.uses(volume) {
      let isThere = volumes.contains { $0.appId == volume.appId && $0.name == volume.name }
      expect(isThere, "start before volume \(volume.name)", planned)
    }
  }

  private mutating func expect(_ condition: Bool, _ text: String, _ planned: PlannedStep) {
    if !condition { violations.append("\(text): \(planned.service ?? "") at \(now): \(planned.reason)") }
  }

  /// Outside a hand-over at most one container of a service runs.
  mutating func checkContainers() {
    let running = containers.filter { $0.container?.status == .running }
    for group in Dictionary(grouping: running, by: { "\($0.appId)/\($0.name)" }).values where group.count > 1
    {
      let others = group.filter { !($0.container?.name.hasPrefix("old_") ?? false) }
      if others.count > 1 {
        violations.append(
          "\(others.map { "\($0.container?.name ?? "") \($0.container?.createdAt ?? "")" }) run at \(now)")
      }
    }
  }
}
