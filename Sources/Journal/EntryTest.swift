import CSystemd

/// The conditions that libsystemd cannot check for us.
struct EntryTest {
  private let needle: [UInt8]
  private let ignoresCase: Bool
  private let servicePrefix: [UInt8]?

  /// - Returns: nil when there is nothing to test.
  init?(_ query: JournalQuery) {
    guard query.grep != nil || query.service != nil else { return nil }
    let text = query.grep ?? ""
    ignoresCase = !text.utf8.contains { $0 >= UInt8(ascii: "A") && $0 <= UInt8(ascii: "Z") }
    needle = Array(text.utf8)
    servicePrefix = query.service.map { Array("\($0)_".utf8) }
  }

  func accepts(_ reader: JournalReader) -> Bool {
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
    for offset in 0...(text.count - needle.count) {
      var index = 0
      while index < needle.count, Self.lower(start[offset + index]) == needle[index] { index += 1 }
      if index == needle.count { return true }
    }
    return false
  }

  private static func lower(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}
