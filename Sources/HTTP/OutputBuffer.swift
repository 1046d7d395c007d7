/// Bytes outside of any Swift object, freed with their owner.
nonisolated final class RawMemory {
  let base: UnsafeMutableRawPointer

  init(byteCount: Int) { base = .allocate(byteCount: max(byteCount, 1), alignment: 16) }

  deinit { base.deallocate() }
}

/// Bytes that are gathered during one event and leave in one write; shared by all connections,
/// since only one of them is at work at a time.
final class OutputBuffer {
  /// More than a batch of pipelined answers; a larger one leaves in pieces.
  static let capacity = 64 * 1024

  private let memory = RawMemory(byteCount: OutputBuffer.capacity)
  private(set) var count = 0

  var base: UnsafeMutableRawPointer { memory.base }

  /// - Returns: false when there is no room; nothing is appended then.
  func append(_ bytes: UnsafeRawPointer, _ length: Int) -> Bool {
    guard length <= Self.capacity - count else { return false }
    (base + count).copyMemory(from: bytes, byteCount: length)
    count += length
    return true
  }

  func removeAll() { count = 0 }
}
