import Model

/// What to do next, and what everything else waits for.
///
/// The steps are independent of each other and may run all at once. A plan without steps
/// means that there is nothing to do until something that is waited for has happened.
public nonisolated struct Plan: Sendable, Hashable {
  public var steps: [PlannedStep] = []
  /// By app id: every app of the current and the target state.
  public var apps: [Int: AppProgress] = [:]

  /// Nothing is left but a reboot, which may have to wait for its next try.
  public var isRebootPending = false

  public init() {}

  /// Nothing to do and nothing to wait for, in no app.
  public var isSettled: Bool { steps.isEmpty && !isRebootPending && apps.values.allSatisfy(\.isSettled) }
}

/// How far an app is from its target.
public nonisolated struct AppProgress: Sendable, Hashable {
  public var waiting: [Waiting] = []
  /// No step is left but storing the commit and releasing the lock.
  public var isSettled = false

  public init(waiting: [Waiting] = [], isSettled: Bool = false) {
    self.waiting = waiting
    self.isSettled = isSettled
  }
}

/// What a service, or a whole app, waits for. A value, not a step: whoever completes what is
/// waited for asks for a new plan.
public nonisolated struct Waiting: Sendable, Hashable {
  /// nil when the whole app waits.
  public var service: String?
  public var cause: Cause

  public init(service: String? = nil, _ cause: Cause) {
    self.service = service
    self.cause = cause
  }

  public enum Cause: Sendable, Hashable {
    /// For the app to hold its update locks.
    case lock
    case download(image: String)
    /// For one of the parallel downloads to end.
    case downloadSlot(image: String)
    case imageBackOff(image: String)
    /// For the images of these services of the same app.
    case images(services: [String])
    case dependencies([Dependency])
    /// One of them will not be met by what is there: the check of its health fails, it has ended, or it
    /// waits for a reboot.
    case dependenciesOutOfReach([Dependency])
    case dependencyCycle([String])
    case networks([String])
    case volumes([String])
    case stopping
    case starting
    case removal
    case handover
    /// For a new container to prove itself before the old one goes.
    case proof
    /// For the next try of an update that was taken back.
    case failedUpdate
    case oldImageRemoval
    case reboot
    case supervisorNetwork
    case extraFirmwareVolume
    /// The executor asked to leave the app alone: back-off, or steps still running.
    case paused
    /// The release's contract is not met.
    case rejected
    /// The release cannot be mapped to containers, for this reason.
    case unmappable(String)
  }
}

nonisolated extension Waiting.Cause: CustomStringConvertible {
  public var description: String {
    switch self {
    case .lock: "the update locks"
    case .download(let image): "the download of \(image)"
    case .downloadSlot(let image): "other downloads before that of \(image)"
    case .imageBackOff(let image): "the next try to download \(image)"
    case .images(let services): "the images of \(services.joined(separator: ", "))"
    case .dependencies(let unmet), .dependenciesOutOfReach(let unmet):
      unmet.map(\.description).joined(separator: ", ")
    case .dependencyCycle(let services):
      "services that depend on each other in a circle: \(services.joined(separator: ", "))"
    case .networks(let names): "the networks \(names.joined(separator: ", "))"
    case .volumes(let names): "the volumes \(names.joined(separator: ", "))"
    case .stopping: "the container to stop"
    case .starting: "the container to start"
    case .removal: "another container of the service to go"
    case .handover: "the hand-over to complete"
    case .proof: "the new container to prove itself"
    case .failedUpdate: "the next try of the update that was taken back"
    case .oldImageRemoval: "the removal of the old image"
    case .reboot: "a reboot"
    case .supervisorNetwork: "the network supervisor0"
    case .extraFirmwareVolume: "the volume extra-firmware"
    case .paused: "the next try"
    case .rejected: "a release whose requirements this device meets"
    case .unmappable(let problem): "a release that can be applied: \(problem)"
    }
  }
}
