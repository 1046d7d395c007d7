import Glibc

/// The names of fields that were seen, each with what stands before its value in a JSON object.
///
/// Model: fields mostly follow each other as they did in an entry before. After each name the table
/// expects the one that came after it the last time, or else the one of the time before that; where
/// one of them comes, a comparison both checks the name and finds its length. Others are looked for by a hash. Memory is bounded: a table that is
/// full says so and is emptied before the next entry.
struct NameTable: ~Copyable {
  /// `systemd.journal-fields(7)`: names have 64 characters at most.
  static let longestName = 64
  /// Room for the name and its equals sign, then for what a JSON object has there.
  private static let leadBytes = longestName + 16
  private static let stride = longestName + 1 + leadBytes
  private static let limit = 127
  private static let slots = 256

  enum Outcome {
    /// Bytes of the name, and the name's number, which holds until the next `begin`.
    case name(Int, number: Int)
    /// No name of a field.
    case invalid
    /// This entry has more names than the table has room for.
    case full
  }

  private struct Entry {
    var length = 0
    var leadLength = 0
    /// The entry of the journal that it was last in.
    var generation: UInt64 = 0
    var successor = 0
    var otherSuccessor = 0
  }

  private let isPretty: Bool
  private let entries = UnsafeMutablePointer<Entry>.allocate(capacity: NameTable.limit + 1)
  private let text = UnsafeMutablePointer<UInt8>.allocate(capacity: (NameTable.limit + 1) * NameTable.stride)
  /// By hash: the number of an entry, 0 where there is none.
  private let numbers = UnsafeMutablePointer<UInt8>.allocate(capacity: NameTable.slots)
  private var count = 0
  private var generation: UInt64 = 0
  private var last = 0

  /// - Parameter isPretty: JSON over several lines.
  init(isPretty: Bool) {
    self.isPretty = isPretty
    entries.initialize(repeating: Entry(), count: Self.limit + 1)
    text.initialize(repeating: 0, count: (Self.limit + 1) * Self.stride)
    numbers.initialize(repeating: 0, count: Self.slots)
  }

  deinit {
    entries.deallocate()
    text.deallocate()
    numbers.deallocate()
  }

  /// Another entry of the journal begins.
  mutating func begin() {
    generation += 1
    last = 0
    guard count == Self.limit else { return }
    numbers.update(repeating: 0, count: Self.slots)
    entries.update(repeating: Entry(), count: Self.limit + 1)
    count = 0
  }

  /// The name that a field starts with.
  @inline(__always)
  mutating func find(_ data: UnsafePointer<UInt8>, _ length: Int) -> Outcome {
    let expected = entries[last].successor
    guard has(expected, data, length) else { return search(data, length) }
    last = expected
    return .name(entries[expected].length, number: expected)
  }

  @inline(__always)
  private func has(_ number: Int, _ data: UnsafePointer<UInt8>, _ length: Int) -> Bool {
    let known = entries[number].length
    return number > 0 && length > known && memcmp(text + number * Self.stride, data, known + 1) == 0
  }

  /// - Returns: false when the name was there already in this entry of the journal.
  @inline(__always)
  mutating func insert(_ number: Int) -> Bool {
    guard entries[number].generation != generation else { return false }
    entries[number].generation = generation
    return true
  }

  /// A comma, the name and a colon, as the JSON object has them.
  @inline(__always)
  func lead(_ number: Int) -> (text: UnsafePointer<UInt8>, count: Int) {
    (UnsafePointer(text + number * Self.stride + Self.longestName + 1), entries[number].leadLength)
  }

  @inline(never)
  private mutating func search(_ data: UnsafePointer<UInt8>, _ length: Int) -> Outcome {
    let other = entries[last].otherSuccessor
    if has(other, data, length) { return follow(other) }
    guard let (known, hash) = EntryWriter.name(data, length) else { return .invalid }
    var slot = Int(hash ^ hash >> 16) & (Self.slots - 1)
    while numbers[slot] > 0 {
      let number = Int(numbers[slot])
      if entries[number].length == known, memcmp(text + number * Self.stride, data, known) == 0 {
        return follow(number)
      }
      slot = (slot + 1) & (Self.slots - 1)
    }
    guard count < Self.limit else { return .full }
    count += 1
    numbers[slot] = UInt8(count)
    keep(count, data, known)
    return follow(count)
  }

  private mutating func follow(_ number: Int) -> Outcome {
    entries[last].otherSuccessor = entries[last].successor
    entries[last].successor = number
    last = number
    return .name(entries[number].length, number: number)
  }

  private mutating func keep(_ number: Int, _ name: UnsafePointer<UInt8>, _ length: Int) {
    let start = text + number * Self.stride
    memcpy(start, name, length + 1)
    let (before, after): (StaticString, StaticString) = isPretty ? (",\n\t\"", "\" : ") : (",\"", "\":")
    var lead = start + Self.longestName + 1
    memcpy(lead, before.utf8Start, before.utf8CodeUnitCount)
    lead += before.utf8CodeUnitCount
    memcpy(lead, name, length)
    lead += length
    memcpy(lead, after.utf8Start, after.utf8CodeUnitCount)
    entries[number] = Entry(
      length: length, leadLength: before.utf8CodeUnitCount + length + after.utf8CodeUnitCount)
  }
}
