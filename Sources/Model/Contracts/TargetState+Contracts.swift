import JSON

// What becomes of a target whose services ask for what the device does not have (target-state 7.4).

/// The lines that tell a user of contracts that are not met.
public nonisolated struct ContractReport: Sendable, Hashable {
  /// One for each app that goes on without some optional services.
  public var removals: [String] = []
  /// All rejected apps in one text; nil when there is none.
  public var rejection: String?

  public init() {}
}

nonisolated extension TargetState {
  /// Checks the contracts of all services and takes the consequences: optional services whose
  /// contract is not met go; an app with any other such service is rejected as a whole.
  ///
  /// - Throws: `.invalid` when a contract is malformed, whichever app and service it is of.
  public mutating func applyContracts(facts: ContractFacts) throws(TargetStateError) -> ContractReport {
    var report = ContractReport()
    let facts = facts.all
    var rejected: [String] = []
    for position in apps.indices {
      guard var release = apps[position].release else { continue }
      var unmet: [TargetService] = []
      for service in release.services where try !service.isContractMet(by: facts) { unmet.append(service) }
      apps[position].isRejected = false
      guard !unmet.isEmpty else { continue }
      if unmet.allSatisfy(\.isOptional) {
        release.services.removeAll { service in unmet.contains { $0.name == service.name } }
        apps[position].release = release
        let names = unmet.map(\.name).joined(separator: ". ")
        report.removals.append("Not running containers because of contract violations: \(names)")
      } else {
        apps[position].isRejected = true
        let names = unmet.map(\.name).joined(separator: ", ")
        rejected.append("  \(apps[position].name): Services with unmet requirements: \(names)")
      }
    }
    if !rejected.isEmpty {
      let lines = ["Some releases were rejected due to having unmet requirements:"] + rejected
      report.rejection = lines.joined(separator: "\n")
    }
    return report
  }
}

nonisolated extension TargetService {
  fileprivate func isContractMet(by facts: [ContractFacts.Fact]) throws(TargetStateError) -> Bool {
    guard let contract else { return true }
    do throws(ModelError) {
      return try Contract(parsing: contract).isMet(by: facts)
    } catch {
      throw TargetStateError(
        .invalid, "The contract for service \(name) failed validation, with error: \(error.message)")
    }
  }

  /// Only the service's own labels say so.
  fileprivate var isOptional: Bool {
    Coercions.isTruthy(labels["io.balena.features.optional"].map { .string($0) })
  }
}
