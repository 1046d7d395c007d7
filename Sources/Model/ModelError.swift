/// Why a value cannot be mapped: to an engine payload, or from one.
///
/// `message` is meant for a person and, where the specification gives a text, exactly that.
public nonisolated struct ModelError: Error, Hashable, Sendable, CustomStringConvertible {
  public let message: String

  public init(_ message: String) { self.message = message }

  public var description: String { message }
}
