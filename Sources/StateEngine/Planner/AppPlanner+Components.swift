import Model

/// Networks or volumes of one app that are to be created, removed or replaced.
nonisolated struct ComponentChanges {
  /// Only in the target: created at once.
  var created: Set<String> = []
  /// Removed or replaced: their users go first.
  var removed: [String: Reason] = [:]

  /// Whether a service of the target that needs it has to wait.
  func isPending(_ name: String) -> Bool { created.contains(name) || removed[name] != nil }
}

/// Networks and volumes (state-engine 3.3).
nonisolated extension AppPlanner {
  mutating func compareComponents() {
    let currentNetworks = Dictionary(grouping: current?.networks ?? [], by: \.name)
    let targetNetworks = target?.networks ?? []
    for network in targetNetworks {
      let existing = currentNetworks[network.name] ?? []
      if existing.isEmpty {
        networkChanges.created.insert(network.name)
      } else if existing.count > 1 {
        networkChanges.removed[network.name] = .rule(.networkDuplicated)
      } else if let differences = existing.first?.differences(to: network), !differences.isEmpty {
        networkChanges.removed[network.name] = .differences(differences)
      }
    }
    let wanted = Set(targetNetworks.map(\.name))
    for name in currentNetworks.keys where !wanted.contains(name) {
      networkChanges.removed[name] = .rule(.networkNotInTarget)
    }

    let currentVolumes = Dictionary((current?.volumes ?? []).map { ($0.name, $0) }) { first, _ in first }
    for volume in target?.volumes ?? [] {
      guard let existing = currentVolumes[volume.name] else {
        volumeChanges.created.insert(volume.name)
        continue
      }
      let differences = existing.differences(to: volume)
      if !differences.isEmpty { volumeChanges.removed[volume.name] = .differences(differences) }
    }
  }

  /// Volumes, then networks. What changes is removed when no container uses it any more and
  /// created by a later plan.
  mutating func planComponents() {
    for volume in current?.volumes ?? [] {
      guard let reason = volumeChanges.removed[volume.name] else { continue }
      if currentServices.contains(where: { $0.uses(volume) }) {
        addWait(.volumes([volume.name]))
      } else {
        add(.removeVolume(volume), reason)
      }
    }
    for volume in target?.volumes ?? [] where volumeChanges.created.contains(volume.name) {
      add(.createVolume(volume), .rule(.volumeMissing))
    }
    var isPlanned: Set<String> = []
    for network in current?.networks ?? [] {
      guard let reason = networkChanges.removed[network.name] else { continue }
      if currentServices.contains(where: { $0.uses(network) }) {
        addWait(.networks([network.name]))
      } else if isPlanned.insert(network.name).inserted {
        add(.removeNetwork(network), reason)
      }
    }
    for network in target?.networks ?? [] where networkChanges.created.contains(network.name) {
      add(.createNetwork(network), .rule(.networkMissing))
    }
  }

  /// Why a container has to go because of what it uses.
  func reasonOfUse(_ service: Service) -> Reason? {
    for network in current?.networks ?? []
    where networkChanges.removed[network.name] != nil && service.uses(network) {
      return .rule(.usesChangingNetwork(network.name))
    }
    for volume in current?.volumes ?? []
    where volumeChanges.removed[volume.name] != nil && service.uses(volume) {
      return .rule(.usesChangingVolume(volume.name))
    }
    return nil
  }

  /// What a target service uses and the app does not have as it shall be.
  func pendingComponents(of service: Service) -> Waiting.Cause? {
    let networks = (target?.networks ?? []).filter { networkChanges.isPending($0.name) && service.uses($0) }
    if !networks.isEmpty { return .networks(networks.map(\.name)) }
    let volumes = (target?.volumes ?? []).filter { volumeChanges.isPending($0.name) && service.uses($0) }
    if !volumes.isEmpty { return .volumes(volumes.map(\.name)) }
    return nil
  }
}
