public import Database
import HostConfiguration
public import JSON
import Logging
public import Model

/// Why a posted target was not taken.
public nonisolated enum TargetRejection: Error, Sendable, CustomStringConvertible {
  case invalid(TargetStateError)
  /// The device could not keep it; what it had before still counts.
  case notStored(String)

  public var description: String {
    switch self {
    case .invalid(let error): error.message
    case .notStored(let text): text
    }
  }
}

extension StateEngine {
  /// Takes the target of local mode: validated, stored in one transaction, and enforced in the
  /// background (target-state 1.6, 1.8).
  ///
  /// - Parameters:
  ///   - body: `{"local": {name, config, apps}}`, version 2.
  ///   - force: take update locks even from those who hold them.
  public func setLocalTarget(_ body: JSON, force: Bool) throws(TargetRejection) {
    guard let host else { return }
    let document: JSON
    do throws(TargetStateError) {
      document = try TargetStateDocument.convertV2(
        body, deviceUuid: host.deviceUuid, deviceName: host.deviceName)
    } catch {
      throw rejected(error)
    }
    try setTarget(document, source: "local", force: force)
  }

  /// Takes a version 3 document; what the device had before stays in force when it throws.
  ///
  /// - Parameter source: `local`, or the API endpoint that sent it.
  public func setTarget(_ document: JSON, source: String, force: Bool) throws(TargetRejection) {
    guard let host else { return }
    let target: TargetState
    do throws(TargetStateError) {
      target = try TargetStateDocument.parse(v3: document, deviceUuid: host.deviceUuid, source: source)
    } catch {
      throw rejected(error)
    }
    try storeTarget(target, source: source)
    trigger(force: force, cancel: true)
  }

  /// Checks the contracts of a validated target and stores it; the caller triggers (target-state
  /// 1.6, step 6, and 7.4).
  ///
  /// - Parameter alongside: stores what belongs to the target, in the same transaction.
  public func storeTarget(
    _ target: TargetState, source: String, alongside: () throws(DatabaseError) -> Void = {}
  ) throws(TargetRejection) {
    guard let host else { return }
    var target = target
    let contracts: ContractReport
    do throws(TargetStateError) {
      contracts = try target.applyContracts(facts: host.contractFacts)
    } catch {
      throw rejected(error)
    }
    do throws(DatabaseError) {
      try store.connection.transaction { () throws(DatabaseError) in
        try alongside()
        try store.targets.replace(with: target, source: source)
      }
    } catch {
      let text = "Could not store target state for device: \(error.message)"
      logger.error("\(text)")
      throw .notStored(text)
    }
    for line in contracts.removals { host.report(.contractViolation, text: line, isError: false) }
    if let text = contracts.rejection { host.report(.releasesRejected, text: text, isError: true) }
    host.targetStored(config: target.config)
  }

  /// Says so where the chapter wants it: the agent's log, and for a document that breaks a rule
  /// the user's, line by line (target-state 1.5).
  private func rejected(_ error: TargetStateError) -> TargetRejection {
    guard error.kind == .invalid else {
      logger.error("Failed to get target state for device: \(error.message)")
      return .invalid(error)
    }
    logger.error("Could not store target state for device: \(error.message)")
    var prefix = "\(SystemEvent.targetStateRejection.humanName): "
    for line in error.message.split(separator: "\n", omittingEmptySubsequences: false) {
      host?.report(.targetStateRejection, text: prefix + line, isError: true)
      prefix = ""
    }
    return .invalid(error)
  }
}
