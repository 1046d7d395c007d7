import JSON
public import Model

// Containers that are kept while their successor proves itself (docs/rollback.md).
//
// Such a container is stopped, has no restart policy and is named
// `previous.<restart policy>.<its name>`: all that is needed to bring it back is on the engine,
// so that it survives a crash of the agent at any moment.

nonisolated extension Service {
  private static let rollbackLabel = "io.balena.update.rollback"

  /// Label `io.balena.update.rollback`, which counts with the default update strategy.
  public var wantsProof: Bool {
    updateStrategy == .downloadThenKill
      && config.labels[Self.rollbackLabel].map { Coercions.isTruthy(.string($0)) } ?? false
  }

  /// The name under which the container is kept.
  var setAsideName: String {
    "\(Service.Container.setAsidePrefix)\(config.restart.isEmpty ? "no" : config.restart).\(containerName)"
  }

  /// A container that was set aside, as it was before.
  var beforeSetAside: Service {
    guard let policy = container?.setAsidePolicy else { return self }
    var service = self
    service.config.restart = policy
    service.config.isRunning = true
    return service
  }
}

nonisolated extension Service.Container {
  fileprivate static let setAsidePrefix = "previous."
  private static let policies = ["no", "always", "on-failure", "unless-stopped"]

  /// The restart policy that a container which was set aside had; nil for any other container.
  public var setAsidePolicy: String? {
    guard name.hasPrefix(Self.setAsidePrefix) else { return nil }
    let rest = name.dropFirst(Self.setAsidePrefix.count)
    return Self.policies.first { rest.hasPrefix($0 + ".") }
  }
}

nonisolated extension Array<Service> {
  /// Without containers that are kept for a way back while there is another of their service.
  var withoutSetAside: [Service] {
    let names = Set(filter { $0.container?.setAsidePolicy == nil }.map(\.name))
    return filter { $0.container?.setAsidePolicy == nil || !names.contains($0.name) }
  }
}

/// Whether a container that replaced another has shown that it works.
public nonisolated enum Proof: Sendable, Hashable {
  case pending
  case proven
}
