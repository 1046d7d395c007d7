import Glibc

/// Why a call on the bus has no result.
public nonisolated struct BusError: Error, Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// There is no connection: no bus at the address, or it went away before the answer.
    case disconnected
    /// The other side did not answer in time.
    case timeout
    /// The other side answered with an error of this D-Bus name.
    case remote(name: String)
    /// The call itself cannot be made, or its answer not be understood.
    case invalid
  }

  public let kind: Kind
  /// For a person: what was tried, and what was said.
  public let message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  /// - Parameter status: a negative errno(3), as sd-bus returns it.
  init(_ kind: Kind, _ what: String, status: Int32) {
    self.init(kind, "\(what): \(String(cString: strerror(-status)))")
  }

  /// Whether the other side said so, by one of these names.
  public func isRemote(_ names: String...) -> Bool { isRemote(anyOf: names) }

  func isRemote(anyOf names: [String]) -> Bool {
    if case .remote(let name) = kind { names.contains(name) } else { false }
  }

  /// Nobody on the bus has the name that was called.
  public var isServiceMissing: Bool {
    isRemote(
      "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
      "org.freedesktop.DBus.Error.Spawn.ServiceNotFound")
  }
}

nonisolated extension BusError: CustomStringConvertible {
  public var description: String { message }
}
