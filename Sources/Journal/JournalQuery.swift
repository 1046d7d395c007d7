/// What a client wants to read: the options of `POST /v2/journal-logs` (specification, http-api 10)
/// and its extensions.
public nonisolated struct JournalQuery: Hashable, Sendable {
  public var format = OutputFormat.short
  public var showsAll = false
  public var follows = false
  /// The last so many entries; with `since` or `cursor` the first ones after it.
  public var count: Int?
  public var filter = JournalFilter()
  /// Globs for names of units, of which one has to hold (`journalctl --unit 'a*'`).
  public var unitGlobs: [String] = []
  /// Entries of this priority or a more severe one, 0 to 7 (`journalctl --priority`).
  public var priority: Int?
  /// Microseconds since the epoch, both included.
  public var since: UInt64?
  public var until: UInt64?
  /// Entries after this one only.
  public var cursor: String?
  /// Text that the message has to contain; case counts when there is an upper-case letter in it.
  public var grep: String?
  /// Name of a service: entries of its containers, of whatever release.
  public var service: String?

  public init() {}
}
