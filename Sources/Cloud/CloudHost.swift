public import JSON

/// Why a target of the cloud is not enforced.
public nonisolated enum TargetRefusal: Error, Sendable, Hashable {
  /// Something in it is wrong, and the host has said what; the same document will be wrong again.
  case invalid
  /// The device could not keep it: tried again.
  case notStored(String)
}

/// What the cloud link needs of the agent around it.
public protocol CloudHost: AnyObject {
  /// Semantic version, as reported.
  var version: String { get }
  var deviceType: String { get }
  var isLocalMode: Bool { get }
  /// Whether a target was ever stored.
  var isTargetStored: Bool { get }
  /// Returns when the apps that came with the device have been taken, or could not be at the first try.
  func preloadIsTried() async

  /// Validates the document of `GET /device/v3/<uuid>/state`, stores it in one transaction, and enforces
  /// it in the background, instead of what is under way and of the force that belonged to that.
  func takeTarget(_ document: JSON, force: Bool) throws(TargetRefusal)
  /// Enforces the stored target again.
  func applyTarget(force: Bool, cancel: Bool)

  /// Fields of the report that are no metrics and not `apps`; what is not known is left out.
  var deviceFields: JSONObject { get }
  /// The eight metrics, null when they are switched off; empty when they cannot be had.
  func metrics() async -> JSONObject
  /// `apps` of the report; nil while what runs is not known yet.
  var reportedApps: JSONObject? { get }

  /// Current configuration of the device by bare name: what the cloud is told at first contact.
  var currentConfiguration: [String: String] { get }
  /// A line for the device's log stream and the agent's log.
  func systemLog(_ text: String, isError: Bool)

  /// Where given-up identities are kept.
  var formerIdentityPath: String { get }
  /// Where the last accepted report is kept.
  var reportCachePath: String { get }
}
