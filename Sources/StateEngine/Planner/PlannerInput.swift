import Model

/// All that the planner looks at (state-engine 3).
public nonisolated struct PlannerInput: Sendable {
  public var current: [App] = []
  /// `config.image` of a target service is the engine's id of its image when that is present.
  public var target: [App] = []
  public var images = ImageInventory()
  /// Names of images that are being pulled now.
  public var downloading: Set<String> = []
  /// Names of images whose last pull failed and whose next try is not due.
  public var imageBackOff: Set<String> = []
  /// How many images are pulled at once.
  public var downloadLimit = 3
  /// Engine ids of unneeded images that could not be deleted and are left alone for a while.
  public var ignoredCleanUps: Set<String> = []
  public var agentImage: AgentImage?

  /// By app id: the services whose update locks the agent holds.
  public var locks: [Int: Set<String>] = [:]
  /// Apps with lock files of the agent on disk that no one holds.
  public var leftoverLocks: Set<Int> = []
  /// By app id: the commit that was last applied in full.
  public var commits: [Int: String] = [:]
  /// Ids of old containers whose hand-over is not complete. A hand-over is complete when its
  /// file was found or its time is over.
  public var handovers: Set<String> = []

  public var force = false
  public var keepImages = false
  /// Matters only for apps that are removed as a whole.
  public var keepVolumes = false
  public var reboot = RebootState()
  public var supervisorNetwork: SupervisorNetworkState = .ready
  /// The volume `extra-firmware` exists and config.json names it.
  public var isExtraFirmwareReady = true
  /// Work of the device as a whole failed, and its next try is not due.
  public var isDevicePaused = false
  /// Apps that are left alone: their last round failed and is not due again, or still runs.
  public var pausedApps: Set<Int> = []
  /// Paused apps whose next try is so far away that others may have their locks meanwhile.
  public var restingApps: Set<Int> = []

  /// Apps that have waited long enough for dependencies that may yet be met.
  public var impatientApps: Set<Int> = []

  /// By app id: what counts instead of the app's target while an action of the API is under way.
  public var intermediate: [Int: IntermediateTarget] = [:]

  /// Ids of containers that the agent itself stopped, or may have.
  public var ownStops: Set<String> = []

  /// By container id: what is known of containers whose predecessor is kept.
  public var proofs: [String: Proof] = [:]
  /// By app id: why an update was taken back that is not to be tried again yet.
  public var failedUpdates: [Int: String] = [:]

  public init() {}
}

/// An app's target while an action of the API is under way (state-engine 1.6). Its images stay,
/// its locks are kept to the end of the action, and nothing is rejected.
public nonisolated struct IntermediateTarget: Sendable, Hashable {
  /// nil: the app goes as a whole, with its volumes.
  public var app: App?
  /// Take update locks even from those who hold them.
  public var force: Bool

  public init(app: App?, force: Bool) {
    self.app = app
    self.force = force
  }
}

/// The reboot breadcrumb (state-engine 1.7).
public nonisolated struct RebootState: Sendable, Hashable {
  /// The breadcrumb exists, and is none that an earlier boot has left.
  public var isScheduled: Bool
  /// The breadcrumb is younger than the boot.
  public var isRequired: Bool
  public var bootTime: Timestamp

  public init(
    isScheduled: Bool = false, isRequired: Bool = false, bootTime: Timestamp = Timestamp(seconds: 0)
  ) {
    self.isScheduled = isScheduled
    self.isRequired = isRequired
    self.bootTime = bootTime
  }
}

public nonisolated enum SupervisorNetworkState: Sendable, Hashable {
  case ready
  case missing
  case wrong([Difference])
}
