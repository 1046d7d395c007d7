/// Why a target state document is not accepted; nothing of it is applied (target-state 1.4, 1.5).
public nonisolated struct TargetStateError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What the rejection is reported as.
  public enum Kind: Sendable, Hashable {
    /// The document breaks a rule; the lines of the message go to the cloud's log.
    case invalid
    /// Anything else, such as a document of another device.
    case failed
  }

  public let kind: Kind
  /// For `.invalid` a first line that names the kind of document, and one line for each error.
  public let message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  public var description: String { message }
}
