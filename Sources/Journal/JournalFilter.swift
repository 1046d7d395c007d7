import CSystemd

/// Which entries are wanted: every group has to hold; a group holds when one of its alternatives does;
/// an alternative is a list of matches, of which those of the same field are alternatives too
/// (sd_journal_add_match(3)).
public nonisolated struct JournalFilter: Hashable, Sendable {
  /// `FIELD=value`; a value may be bytes of any kind.
  public nonisolated struct Match: Hashable, Sendable, ExpressibleByStringInterpolation {
    var bytes: [UInt8]

    init(_ field: String, _ value: some Sequence<UInt8>) { bytes = Array("\(field)=".utf8) + value }

    public init(stringLiteral text: String) { bytes = Array(text.utf8) }

    public init(_ text: String) { bytes = Array(text.utf8) }

    var text: String { String(decoding: bytes, as: UTF8.self) }
  }

  public var groups: [[[Match]]] = []

  public init() {}

  public init(groups: [[[Match]]]) { self.groups = groups }

  /// Entries with one of the values.
  public mutating func require(_ field: String, oneOf values: [String]) {
    groups.append([values.map { Match(field, $0.utf8) }])
  }

  /// Entries of a boot, by its id of 32 hexadecimal digits.
  public mutating func require(boot: String) { require("_BOOT_ID", oneOf: [boot]) }

  /// Entries of a priority or a more severe one.
  mutating func require(priorityUpTo level: Int) {
    require("PRIORITY", oneOf: (0...max(0, min(level, 7))).map { String($0) })
  }

  /// Entries by or about one of the units (`journalctl --unit`): what the unit logged, core dumps of it,
  /// what the service manager said about it, and what daemons of root did.
  public mutating func require(units: [String]) { require(units: units.map { Array($0.utf8) }) }

  /// The same with names that need not be UTF-8.
  mutating func require(units: [[UInt8]]) { groups.append(units.flatMap(Self.alternatives(unit:))) }

  static func alternatives(unit: [UInt8]) -> [[Match]] {
    var alternatives: [[Match]] = [
      [Match("_SYSTEMD_UNIT", unit)],
      ["MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1", "_UID=0", Match("COREDUMP_UNIT", unit)],
      ["_PID=1", Match("UNIT", unit)],
      ["_UID=0", Match("OBJECT_SYSTEMD_UNIT", unit)],
    ]
    if unit.suffix(6).elementsEqual(".slice".utf8) { alternatives.append([Match("_SYSTEMD_SLICE", unit)]) }
    return alternatives
  }

  func apply(to journal: OpaquePointer) throws(JournalError) {
    for (index, group) in groups.enumerated() {
      if index > 0 { try JournalError.check(sd_journal_add_conjunction(journal), "add conjunction") }
      for (position, alternative) in group.enumerated() {
        if position > 0 { try JournalError.check(sd_journal_add_disjunction(journal), "add disjunction") }
        for match in alternative {
          try JournalError.check(
            sd_journal_add_match(journal, match.bytes, match.bytes.count), "add match \(match.text)")
        }
      }
    }
  }
}
