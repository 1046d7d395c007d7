import CSystemd
import DequeModule
import Glibc

/// Bytes that the socket did not take yet, in the order in which they go out.
struct OutputQueue {
  private var pieces = Deque<[UInt8]>()
  /// Bytes of the first piece that have gone.
  private var offset = 0
  private(set) var count = 0

  /// Small pieces are put together up to this size.
  private static let mergeBytes = 16 * 1024
  private static let piecesPerCall = 16

  var isEmpty: Bool { count == 0 }

  mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard !bytes.isEmpty else { return }
    count += bytes.count
    if let last = pieces.indices.last, pieces[last].count + bytes.count <= Self.mergeBytes {
      pieces[last].append(contentsOf: bytes)
    } else {
      pieces.append(Array(bytes))
    }
  }

  /// A large array is kept, not copied.
  mutating func append(_ bytes: [UInt8], from start: Int = 0) {
    guard bytes.count > start else { return }
    if bytes.count - start < Self.mergeBytes || start > 0 && pieces.isEmpty == false {
      bytes.withUnsafeBufferPointer { append($0.slice(start..<bytes.count)) }
      return
    }
    if pieces.isEmpty { offset = start }
    pieces.append(bytes)
    count += bytes.count - start
  }

  /// Writes as much as the socket takes in one call.
  ///
  /// - Returns: 0, or the `errno` of the call.
  mutating func write(to descriptor: Int32) -> Int32 {
    let sent = withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.piecesPerCall) { vectors in
      var used = 0
      for piece in pieces.prefix(Self.piecesPerCall) {
        // The arrays stay where they are while the queue holds them.
        piece.withUnsafeBufferPointer { bytes in
          let skipped = used == 0 ? offset : 0
          vectors[used] = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress.map { $0 + skipped }),
            iov_len: bytes.count - skipped)
        }
        used += 1
      }
      return Socket.send(descriptor, vectors.baseAddress, used)
    }
    if sent < 0 { return errno }
    drop(sent)
    return 0
  }

  mutating func removeAll() {
    pieces = []
    (offset, count) = (0, 0)
  }

  private mutating func drop(_ amount: Int) {
    count -= amount
    var amount = amount
    while amount > 0, let first = pieces.first {
      let left = first.count - offset
      if amount < left {
        offset += amount
        return
      }
      amount -= left
      offset = 0
      pieces.removeFirst()
    }
    if count == 0 { removeAll() }
  }
}
