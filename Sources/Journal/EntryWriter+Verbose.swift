import CSystemd

extension EntryWriter {
  /// All fields, one a line, below a line with time and cursor.
  mutating func writeVerbose(_ journal: OpaquePointer) -> Bool {
    guard let address = Self.address(journal), let sourceTime = Self.sourceTime(journal) else { return false }
    let realtime = sourceTime > 0 ? sourceTime : address.realtime
    clock.setTo(realtime, .full)
    out.append(clock.head)
    writeFraction(realtime % 1_000_000)
    out.append(clock.zone)
    guard writeCursor(journal, before: " [") else { return false }
    out.append("]\n")

    var data = UnsafePointer(out.base)
    var length = 0
    sd_journal_restart_data(journal)
    while true {
      let result = Self.next(journal, &data, &length)
      guard result > 0 else { return result == 0 }
      guard let name = Self.name(data, length) else { continue }
      let field = Field(data: data, length: length, name: name.length)
      out.append("    ")
      out.append(data, name.length + 1)
      if showsAll || Printable.isText(field.value, field.valueLength) {
        Self.writeLines(field.value, field.valueLength, indent: 4 + name.length + 1, to: &out)
      } else {
        out.append(UInt8(ascii: "["))
        Self.writeSize(field.valueLength, to: &out)
        out.append(" blob data]\n")
      }
    }
  }

  /// - Returns: 0 when the entry has no time of its sender, nil when it cannot be read.
  private static func sourceTime(_ journal: OpaquePointer) -> UInt64? {
    var data: UnsafeRawPointer?
    var length = 0
    let result = sd_journal_get_data(journal, "_SOURCE_REALTIME_TIMESTAMP", &data, &length)
    guard result >= 0, let data, length >= 27 else { return result == -ENOENT ? 0 : nil }
    return time(data.assumingMemoryBound(to: UInt8.self) + 27, length - 27, .realtime) ?? 0
  }
}
