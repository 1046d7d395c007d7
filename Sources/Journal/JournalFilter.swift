import CSystemd

/// Which entries are wanted: every group has to hold; a group holds when one of its alternatives does;
/// an alternative is a list of matches, of which those of the same field are alternatives too
/// (sd_journal_add_match(3)).
public nonisolated struct JournalFilter: Hashable, Sendable {
  /// `FIELD=value`
  public typealias Match = String
  public var groups: [[[Match]]] = []

  public init() {}

  public init(groups: [[[Match]]]) { self.groups = groups }

  /// Entries with one of the values.
  public mutating func require(_ field: String, oneOf values: [String]) {
    groups.append([values.map { "\(field)=\($0)" }])
  }

  /// Entries of a boot, by its id of 32 hexadecimal digits.
  public mutating func require(boot: String) { require("_BOOT_ID", oneOf: [boot]) }

  /// Entries of a priority or a more severe one (`journalctl --priority`).
  public mutating func require(priorityUpTo level: Int) {
    require("PRIORITY", oneOf: (0...max(0, min(level, 7))).map { String($0) })
  }

  /// Entries by or about one of the units (`journalctl --unit`): what the unit logged, core dumps of it,
  /// what the service manager said about it, and what daemons of root did.
  public mutating func require(units: [String]) {
    groups.append(units.flatMap(Self.alternatives(unit:)))
  }

  static func alternatives(unit: String) -> [[Match]] {
    var alternatives = [
      ["_SYSTEMD_UNIT=\(unit)"],
      ["MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1", "_UID=0", "COREDUMP_UNIT=\(unit)"],
      ["_PID=1", "UNIT=\(unit)"],
      ["_UID=0", "OBJECT_SYSTEMD_UNIT=\(unit)"],
    ]
    if unit.hasSuffix(".slice") { alternatives.append(["_SYSTEMD_SLICE=\(unit)"]) }
    return alternatives
  }

  func apply(to journal: OpaquePointer) throws(JournalError) {
    for (index, group) in groups.enumerated() {
      if index > 0 { try JournalError.check(sd_journal_add_conjunction(journal), "add conjunction") }
      for (position, alternative) in group.enumerated() {
        if position > 0 { try JournalError.check(sd_journal_add_disjunction(journal), "add disjunction") }
        for match in alternative {
          var bytes = Array(match.utf8)
          try JournalError.check(sd_journal_add_match(journal, &bytes, bytes.count), "add match \(match)")
        }
      }
    }
  }
}
