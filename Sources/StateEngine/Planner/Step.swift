import Database
import Model

/// One change of the device (state-engine 2). Executing a step is the only place that changes
/// it; a step says what shall become true, so that repeating one after a crash is harmless.
public nonisolated enum Step: Sendable, Hashable {
  /// Create `supervisor0`, after deleting one with wrong options.
  case ensureSupervisorNetwork
  /// Create the volume `extra-firmware` and name it in config.json.
  case ensureExtraFirmwareVolume

  /// Pull the image and store the row, which stands for the use that asked for it.
  case fetch(StoredImage)
  /// Tag an image that the engine has already, and store the row.
  case saveImage(StoredImage, engineId: String)
  /// Delete the row and, unless `isNameShared`, the image's tags and digests from the engine.
  case removeImage(StoredImage, isNameShared: Bool)
  /// Delete dangling images and old images of the agent, by engine id.
  case cleanUpImages([String])

  case createNetwork(Network)
  case removeNetwork(Network)
  case createVolume(Volume)
  case removeVolume(Volume)

  /// Take the update locks of all these services, or of none.
  case takeLock(appId: Int, services: [String], force: Bool)
  case releaseLock(appId: Int)

  /// Create the container if `container` is nil; start it unless the target is not to run or
  /// waits for a reboot (state-engine 7.2).
  case start(target: Service, container: Service.Container?)
  /// Stop and remove the container.
  case kill(Service)
  /// Stop the container and keep it.
  case stop(Service)
  /// Remove a dead container.
  case remove(Service)
  /// Rename the container to the target's name; nothing else differs.
  case updateMetadata(current: Service, target: Service)
  /// Clear old hand-over files, rename the old container, create and start the new one, and
  /// enter the old container into `PlannerInput.handovers`. The wait is not part of the step.
  case handover(current: Service, target: Service)

  /// Stop the container and keep it under another name, without a restart policy.
  case setAside(Service)
  /// Bring a container back that was set aside: restart policy, start, name.
  case restore(Service)

  /// Leave the reboot breadcrumb for this service.
  case requireReboot(appId: Int, service: String)
  case reboot
  case updateCommit(appId: Int, commit: String)

  /// The step's name as logs and the API print it.
  public var name: String {
    switch self {
    case .ensureSupervisorNetwork: "ensureSupervisorNetwork"
    case .ensureExtraFirmwareVolume: "ensureExtraFirmwareVolume"
    case .fetch: "fetch"
    case .saveImage: "saveImage"
    case .removeImage: "removeImage"
    case .cleanUpImages: "cleanup"
    case .createNetwork: "createNetwork"
    case .removeNetwork: "removeNetwork"
    case .createVolume: "createVolume"
    case .removeVolume: "removeVolume"
    case .takeLock: "takeLock"
    case .releaseLock: "releaseLock"
    case .start: "start"
    case .kill: "kill"
    case .stop: "stop"
    case .remove: "remove"
    case .updateMetadata: "updateMetadata"
    case .handover: "handover"
    case .setAside: "setAside"
    case .restore: "restore"
    case .requireReboot: "requireReboot"
    case .reboot: "reboot"
    case .updateCommit: "updateCommit"
    }
  }
}

/// A step, whose it is, and why it was planned.
public nonisolated struct PlannedStep: Sendable, Hashable {
  public var step: Step
  /// nil for a step of the device as a whole, and for rows of apps that are gone.
  public var appId: Int?
  public var service: String?
  public var reason: Reason

  public init(_ step: Step, appId: Int? = nil, service: String? = nil, reason: Reason) {
    self.step = step
    self.appId = appId
    self.service = service
    self.reason = reason
  }
}

/// Why a step was planned: the fields that differ, or the rule that asks for it.
public nonisolated enum Reason: Sendable, Hashable {
  case differences([Difference])
  case rule(Rule)

  public enum Rule: Sendable, Hashable {
    case supervisorNetworkMissing
    case supervisorNetworkWrong([Difference])
    case extraFirmwareVolumeMissing
    case imageMissing
    case imageUnderOtherUse
    case imageUnused
    case oldImageBeforeNew
    case imagesDangling
    case networkMissing
    case networkNotInTarget
    case networkDuplicated
    case volumeMissing
    case usesChangingNetwork(String)
    case usesChangingVolume(String)
    case lockNeeded(services: [String])
    case lockNoLongerNeeded
    case containerMissing
    case containerNeverStarted
    case stoppedByAgent
    case containerDead
    case startFailedOnAddress(String)
    case serviceNotInTarget
    case appNotInTarget
    case notToRun
    case duplicateContainer(newest: String)
    case handedOver
    case handoverUnwanted
    case handoverTakenBack
    case proven
    case updateFailed(String)
    case targetIsPrevious
    case restoreUnfinished
    case replacementRuns
    case rebootLabel
    case rebootScheduled
    /// A call of the API.
    case requested(String)
  }
}

nonisolated extension Reason: CustomStringConvertible {
  public var description: String {
    switch self {
    case .differences(let differences): Reason.text(differences)
    case .rule(let rule): rule.description
    }
  }

  fileprivate static func text(_ differences: [Difference]) -> String {
    differences.map { "\($0.field): \($0.current) -> \($0.target)" }.joined(separator: "; ")
  }
}

nonisolated extension Reason.Rule: CustomStringConvertible {
  public var description: String {
    switch self {
    case .supervisorNetworkMissing: "the network supervisor0 is missing"
    case .supervisorNetworkWrong(let differences):
      "the network supervisor0 differs: \(Reason.text(differences))"
    case .extraFirmwareVolumeMissing: "the volume extra-firmware is missing"
    case .imageMissing: "the image is not on the device"
    case .imageUnderOtherUse: "the image is on the device for another use"
    case .imageUnused: "no service uses the image"
    case .oldImageBeforeNew: "the update strategy deletes the old image before the download"
    case .imagesDangling: "the images have no name, or are of an older agent"
    case .networkMissing: "the network is missing"
    case .networkNotInTarget: "the target has no such network"
    case .networkDuplicated: "several networks have the name"
    case .volumeMissing: "the volume is missing"
    case .usesChangingNetwork(let name): "it uses the network \(name), which changes"
    case .usesChangingVolume(let name): "it uses the volume \(name), which changes"
    case .lockNeeded(let services): "needed for \(services.joined(separator: ", "))"
    case .lockNoLongerNeeded: "the app is settled"
    case .containerMissing: "the service has no container"
    case .containerNeverStarted: "the container was never started"
    case .stoppedByAgent: "the agent stopped it for a change that is no longer wanted"
    case .containerDead: "the engine could not remove the container"
    case .startFailedOnAddress(let error): "the start failed on an address: \(error)"
    case .serviceNotInTarget: "the target has no such service"
    case .appNotInTarget: "the target has no such app"
    case .notToRun: "the target says that it shall not run"
    case .duplicateContainer(let newest): "container \(newest) replaced it"
    case .handedOver: "the hand-over is complete"
    case .handoverUnwanted: "it was handing over to a container that is no longer wanted"
    case .handoverTakenBack: "it was handing over and is the target again"
    case .proven: "its replacement has proven itself"
    case .updateFailed(let reason): "the update failed: \(reason)"
    case .targetIsPrevious: "the target is what was replaced"
    case .restoreUnfinished: "it was not brought back in full"
    case .replacementRuns: "its replacement runs"
    case .rebootLabel: "the service asks for a reboot before it starts"
    case .requested(let call): "\(call) was asked for through the API"
    case .rebootScheduled: "a reboot is scheduled and nothing else is to be done"
    }
  }
}
