import Glibc

/// Bytes that grow at the end, in memory that is kept from use to use.
nonisolated struct ByteBuffer: ~Copyable {
  private(set) var base: UnsafeMutablePointer<UInt8>
  private var capacity: Int
  var count = 0

  init(capacity: Int) {
    base = .allocate(capacity: capacity)
    self.capacity = capacity
  }

  deinit { base.deallocate() }

  /// Makes room for `amount` bytes more.
  @inline(__always)
  mutating func reserve(_ amount: Int) {
    if capacity - count < amount { grow(amount) }
  }

  @inline(never)
  private mutating func grow(_ amount: Int) {
    let larger = max(capacity * 2, count + amount)
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: larger)
    memory.update(from: base, count: count)
    base.deallocate()
    base = memory
    capacity = larger
  }

  /// Empties the buffer, and gives memory beyond `limit` back that an unusual entry needed.
  mutating func removeAll(keeping limit: Int) {
    count = 0
    guard capacity > limit else { return }
    base.deallocate()
    base = .allocate(capacity: limit)
    capacity = limit
  }

  /// The bytes as an array.
  func array() -> [UInt8] { Array(UnsafeBufferPointer(start: base, count: count)) }

  @inline(__always)
  mutating func append(_ byte: UInt8) {
    reserve(1)
    base[count] = byte
    count += 1
  }

  @inline(__always)
  mutating func append(_ from: UnsafePointer<UInt8>, _ amount: Int) {
    reserve(amount)
    memcpy(base + count, from, amount)
    count += amount
  }

  @inline(__always)
  mutating func append(_ text: StaticString) { append(text.utf8Start, text.utf8CodeUnitCount) }

  mutating func append(_ bytes: [UInt8]) {
    bytes.withUnsafeBufferPointer { if let start = $0.baseAddress { append(start, $0.count) } }
  }

  mutating func append(_ byte: UInt8, times: Int) {
    guard times > 0 else { return }
    reserve(times)
    memset(base + count, Int32(byte), times)
    count += times
  }

  /// The number in decimal, filled up on the left to `width` characters.
  mutating func append(decimal number: UInt64, width: Int = 0, fill: UInt8 = UInt8(ascii: "0")) {
    var value = number
    var digits = 1
    while value >= 10 {
      value /= 10
      digits += 1
    }
    let length = max(digits, width)
    reserve(length)
    var position = count + length
    value = number
    for _ in 0..<digits {
      position -= 1
      base[position] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value % 10)
      value /= 10
    }
    while position > count {
      position -= 1
      base[position] = fill
    }
    count += length
  }

  mutating func append(hexadecimal bytes: UnsafePointer<UInt8>, _ amount: Int) {
    reserve(amount * 2)
    for index in 0..<amount {
      base[count] = Self.digit(bytes[index] >> 4)
      base[count + 1] = Self.digit(bytes[index] & 15)
      count += 2
    }
  }

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") - 10 + value
  }
}
