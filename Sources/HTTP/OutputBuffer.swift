/// Bytes that are gathered during one event and leave in one write; shared by all connections,
/// since only one of them is at work at a time.
final class OutputBuffer {
  /// More than a batch of pipelined answers; a larger one leaves in pieces.
  static let capacity = 64 * 1024

  let base = UnsafeMutableRawPointer.allocate(byteCount: OutputBuffer.capacity, alignment: 16)
  private(set) var count = 0

  isolated deinit { base.deallocate() }

  /// - Returns: false when there is no room; nothing is appended then.
  func append(_ bytes: UnsafeRawPointer, _ length: Int) -> Bool {
    guard length <= Self.capacity - count else { return false }
    (base + count).copyMemory(from: bytes, byteCount: length)
    count += length
    return true
  }

  func removeAll() { count = 0 }
}
