import Glibc

/// Bytes of a connection that arrived and were not consumed: the beginning of a head, or
/// requests behind one that is not answered yet.
///
/// Most connections never own memory here: the server reads into a buffer that all share, and
/// only what is left over is kept. The memory is released as soon as it is empty.
struct InputBuffer: ~Copyable {
  private var memory: UnsafeMutablePointer<UInt8>?
  private var capacity = 0
  private var start = 0
  private(set) var count = 0

  init() {}

  deinit { memory?.deallocate() }

  var isEmpty: Bool { count == 0 }

  var bytes: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: memory.map { UnsafePointer($0 + start) }, count: count)
  }

  mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
    if capacity - start - count < bytes.count { makeRoom(bytes.count) }
    guard let memory else { return }
    (memory + start + count).update(from: source, count: bytes.count)
    count += bytes.count
  }

  mutating func drop(_ amount: Int) {
    count -= amount
    start += amount
    if count == 0 { release() }
  }

  mutating func release() {
    memory?.deallocate()
    memory = nil
    (capacity, start, count) = (0, 0, 0)
  }

  private mutating func makeRoom(_ amount: Int) {
    let wanted = max(1024, (count + amount) * 2)
    let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: wanted)
    if let memory {
      larger.initialize(from: memory + start, count: count)
      memory.deallocate()
    }
    memory = larger
    capacity = wanted
    start = 0
  }
}
