/// What the agent tells the user of a service's life, in the fixed words of the log stream
/// (state-engine 9).
public nonisolated enum SystemEvent: String, Sendable, CaseIterable {
  case downloadImage = "Docker image download"
  case downloadDelta = "Delta image download"
  case deltaStillProcessing = "Delta still processing remotely."
  case imageDownloaded = "Image downloaded"
  case imageDownloadError = "Image download error"
  case removeImage = "Image removal"
  case imageRemoved = "Image removed"
  case imageRemovalError = "Image removal error"
  case imageCleanUpError = "Image cleanup error"
  case installService = "Service install"
  case serviceInstalled = "Service installed"
  case serviceInstallError = "Service install error"
  case startService = "Service start"
  case serviceStarted = "Service started"
  case serviceStartError = "Service start error"
  case killService = "Service kill"
  case serviceStopped = "Service stop"
  case serviceAlreadyStopped = "Service already stopped"
  case serviceAlreadyGone = "Service already stopped and container removed"
  case serviceStopError = "Service stop error"
  case removeDeadContainer = "Remove dead container"
  case removeDeadContainerError = "Remove dead container error"
  case serviceExit = "Service exit"
  case serviceRestart = "Service restart"
  case createVolume = "Volume creation"
  case createVolumeError = "Volume creation error"
  case removeVolume = "Volume removal"
  case removeVolumeError = "Volume removal error"
  case createNetwork = "Network creation"
  case createNetworkError = "Network creation error"
  case removeNetwork = "Network removal"
  case removeNetworkError = "Network removal error"
  case takeLocks = "Take update locks"
  case releaseLocks = "Release update locks"
  case updateLocked = "updateLocked"
  case rebootScheduled = "Reboot scheduled"
  case targetStateRejection
  /// Optional services that do not run here.
  case contractViolation = "Not running containers because of contract violations"
  case releasesRejected = "Some releases were rejected due to having unmet requirements"
  case reboot = "Reboot"
  case shutdown = "Shutdown"
  /// Beyond the reference: docs/rollback.md.
  case updateTakenBack = "Update rolled back"
  case purge = "Purge data"
  case purged = "Purge data success"
  case purgeError = "Purge data error"

  /// The words that the user reads.
  public var humanName: String {
    switch self {
    case .downloadImage: "Downloading image"
    case .downloadDelta: "Downloading delta for image"
    case .deltaStillProcessing: "Delta still processing remotely. Will retry..."
    case .imageDownloaded: "Downloaded image"
    case .imageDownloadError: "Failed to download image"
    case .removeImage: "Deleting image"
    case .imageRemoved: "Deleted image"
    case .imageRemovalError: "Failed to delete image"
    case .imageCleanUpError: "Error cleaning up images"
    case .installService: "Installing service"
    case .serviceInstalled: "Installed service"
    case .serviceInstallError: "Failed to install service"
    case .startService: "Starting service"
    case .serviceStarted: "Started service"
    case .serviceStartError: "Failed to start service"
    case .killService: "Killing service"
    case .serviceStopped: "Killed service"
    case .serviceAlreadyStopped: "Service is already stopped, removing container"
    case .serviceAlreadyGone: "Service is already stopped and the container removed"
    case .serviceStopError: "Failed to kill service"
    case .removeDeadContainer: "Removing dead container"
    case .removeDeadContainerError: "Error removing dead container"
    case .serviceExit: "Service exited"
    case .serviceRestart: "Restarting service"
    case .createVolume: "Creating volume"
    case .createVolumeError: "Error creating volume"
    case .removeVolume: "Removing volume"
    case .removeVolumeError: "Error removing volume"
    case .createNetwork: "Creating network"
    case .createNetworkError: "Error creating network"
    case .removeNetwork: "Removing network"
    case .removeNetworkError: "Error removing network"
    case .takeLocks: "Taking update locks"
    case .releaseLocks: "Releasing update locks"
    case .updateLocked: "Updates are locked"
    case .rebootScheduled: "Reboot has been scheduled to apply changes"
    case .targetStateRejection: "Could not move to new release"
    case .contractViolation, .releasesRejected: rawValue
    case .reboot: "Rebooting"
    case .shutdown: "Shutting down"
    case .updateTakenBack: "Going back from release"
    case .purge: "Purging data"
    case .purged: "Purged data"
    case .purgeError: "Error purging data"
    }
  }

  /// The whole line: name, object in quotes, cause.
  ///
  /// - Parameter cause: an error's message; an empty one becomes `Unknown cause`.
  public func text(object: String?, cause: String?) -> String {
    var text = humanName
    if let object { text += " '\(object)'" }
    if let cause { text += " due to '\(cause.isEmpty ? "Unknown cause" : cause)'" }
    return text
  }
}
