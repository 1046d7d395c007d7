import Testing

@testable import StateEngine

/// The lines that users read, word for word (state-engine 9).
struct SystemEventTests {
  /// Event name and human name. Lines of one kind of object carry it, see `form`.
  private static let table: [(event: String, human: String)] = [
    ("Docker image download", "Downloading image"),
    ("Delta image download", "Downloading delta for image"),
    ("Image downloaded", "Downloaded image"),
    ("Image download error", "Failed to download image"),
    ("Delta still processing remotely.", "Delta still processing remotely. Will retry..."),
    ("Image removal", "Deleting image"),
    ("Image removed", "Deleted image"),
    ("Image removal error", "Failed to delete image"),
    ("Service install", "Installing service"),
    ("Service installed", "Installed service"),
    ("Service install error", "Failed to install service"),
    ("Service start", "Starting service"),
    ("Service started", "Started service"),
    ("Service start error", "Failed to start service"),
    ("Service kill", "Killing service"),
    ("Service stop", "Killed service"),
    ("Service already stopped", "Service is already stopped, removing container"),
    (
      "Service already stopped and container removed",
      "Service is already stopped and the container removed"
    ),
    ("Service stop error", "Failed to kill service"),
    ("Remove dead container", "Removing dead container"),
    ("Remove dead container error", "Error removing dead container"),
    ("Service exit", "Service exited"),
    ("Service restart", "Restarting service"),
    ("Volume creation", "Creating volume"),
    ("Volume creation error", "Error creating volume"),
    ("Volume removal", "Removing volume"),
    ("Volume removal error", "Error removing volume"),
    ("Network creation", "Creating network"),
    ("Network creation error", "Error creating network"),
    ("Network removal", "Removing network"),
    ("Network removal error", "Error removing network"),
    ("Take update locks", "Taking update locks"),
    ("Release update locks", "Releasing update locks"),
    ("updateLocked", "Updates are locked"),
    ("Reboot scheduled", "Reboot has been scheduled to apply changes"),
    ("Reboot", "Rebooting"),
    ("Shutdown", "Shutting down"),
    ("Purge data", "Purging data"),
    ("Purge data success", "Purged data"),
    ("Purge data error", "Error purging data"),
    ("targetStateRejection", "Could not move to new release"),
    (
      "Some releases were rejected due to having unmet requirements",
      "Some releases were rejected due to having unmet requirements"
    ),
    (
      "Not running containers because of contract violations",
      "Not running containers because of contract violations"
    ),
  ]
  /// Events with a text of their own each time, and those that the reference does not have.
  private static let others: [SystemEvent] = [.imageCleanUpError, .updateTakenBack]

  @Test func everyEventHasTheNameAndTheWordsOfTheChapterAndThereIsNoOther() {
    var left = Set(SystemEvent.allCases).subtracting(Self.others)
    for (event, human) in Self.table {
      let found = SystemEvent(rawValue: event)
      #expect(found?.humanName == human, "\(event)")
      if let found { left.remove(found) }
    }
    #expect(left == [])
  }

  @Test func theObjectIsInQuotesAndTheCauseAfterIt() {
    for event in SystemEvent.allCases {
      #expect(event.text(object: nil, cause: nil) == event.humanName)
      #expect(event.text(object: "main sha256:1", cause: nil) == "\(event.humanName) 'main sha256:1'")
      #expect(
        event.text(object: "main sha256:1", cause: "no such file")
          == "\(event.humanName) 'main sha256:1' due to 'no such file'")
      #expect(event.text(object: "a", cause: "") == "\(event.humanName) 'a' due to 'Unknown cause'")
    }
  }
}
