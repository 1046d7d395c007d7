import Database
import HostConfiguration
public import JSON
import Model

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
    let target: TargetState
    do throws(TargetStateError) {
      let document = try TargetStateDocument.convertV2(
        body, deviceUuid: host.deviceUuid, deviceName: host.deviceName)
      target = try TargetStateDocument.parse(v3: document, deviceUuid: host.deviceUuid, source: "local")
    } catch {
      throw .invalid(error)
    }
    do throws(DatabaseError) {
      try store.targets.replace(with: target, source: "local")
    } catch {
      throw .notStored("Could not store target state for device: \(error.message)")
    }
    host.targetStored(config: target.config)
    trigger(force: force, cancel: true)
  }
}
