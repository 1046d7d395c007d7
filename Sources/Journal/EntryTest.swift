import CSystemd

/// The conditions that libsystemd cannot check for us.
struct EntryTest {
  private let needle: [UInt8]
  private let ignoresCase: Bool
  private let servicePrefix: [UInt8]?
  private let priorities: ClosedRange<UInt8>?

  /// - Parameter testsPriority: false when libsystemd checks it.
  /// - Returns: nil when there is nothing to test.
  init?(_ query: JournalQuery, testsPriority: Bool) {
    let priority = testsPriority ? query.priority : nil
    guard query.grep != nil || query.service != nil || priority != nil else { return nil }
    priorities = priority.map { UInt8(ascii: "0")...UInt8(ascii: "0") + UInt8(max(0, min($0, 7))) }
    let text = query.grep ?? ""
    ignoresCase = !text.utf8.contains { $0 >= UInt8(ascii: "A") && $0 <= UInt8(ascii: "Z") }
    needle = Array(text.utf8)
    servicePrefix = query.service.map { Array("\($0)_".utf8) }
  }

  /// What libsystemd would have checked: an entry that fails is none, also for the boots that are shown.
  func isEntry(_ reader: JournalReader) -> Bool {
    guard let priorities else { return true }
    return reader.hasValue("PRIORITY") { $0.count == 1 && priorities.contains($0[0]) }
  }

  func accepts(_ reader: JournalReader) -> Bool {
    guard isEntry(reader) else { return false }
    if let servicePrefix {
      let isOurs = reader.withValue("CONTAINER_NAME") { Self.isName($0, of: servicePrefix) }
      guard isOurs == true else { return false }
    }
    guard !needle.isEmpty else { return true }
    return reader.withValue("MESSAGE") { contains($0) } == true
  }

  /// `<service>_<image id>_<release id>` and what may follow (specification, target-state).
  private static func isName(_ name: UnsafeBufferPointer<UInt8>, of prefix: [UInt8]) -> Bool {
    guard name.count > prefix.count, name.starts(with: prefix) else { return false }
    let ids = name[prefix.count...].split(separator: UInt8(ascii: "_"), maxSplits: 2)
    return ids.count >= 2
      && ids[..<2].allSatisfy { $0.allSatisfy { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") } }
  }

  private func contains(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
    guard let start = text.baseAddress, text.count >= needle.count else { return false }
    if !ignoresCase { return csystemd_find(start, text.count, needle, needle.count) >= 0 }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: text.count) { copy in
      for (index, byte) in text.enumerated() { copy[index] = Self.lower(byte) }
      guard let start = copy.baseAddress else { return false }
      return csystemd_find(start, text.count, needle, needle.count) >= 0
    }
  }

  private static func lower(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}
