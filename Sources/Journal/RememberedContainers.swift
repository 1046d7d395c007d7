/// Whose lines a follower takes: the containers that there are, and some that are gone, whose last lines may
/// not have been read yet.
public nonisolated struct RememberedContainers: Sendable {
  /// Containers that are gone and still known.
  public static let formerLimit = 64

  /// By full id.
  public private(set) var all: [String: LoggedContainer]
  /// In the order in which they went.
  private var former: [String] = []

  public init(_ all: [String: LoggedContainer] = [:]) { self.all = all }

  /// To be called with those that there are now.
  public mutating func note(_ present: [String: LoggedContainer]) {
    former += all.keys.filter { present[$0] == nil && !former.contains($0) }
    former.removeAll { present[$0] != nil }
    while former.count > Self.formerLimit { all[former.removeFirst()] = nil }
    all.merge(present) { _, new in new }
  }
}
