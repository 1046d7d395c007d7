/// Puts together the parts of long lines, which the engine writes as entries of 16 KiB at most.
struct PartialLines {
  /// Of one line; what is beyond is dropped. The cloud cuts lines at 10,000 characters anyway.
  static let lineBytes = 48 * 1024
  /// Lines that are incomplete at the same time; the oldest gives way.
  static let openLines = 64

  private var lines: [(key: String, bytes: [UInt8])] = []

  var count: Int { lines.count }

  /// - Returns: the whole line with its last part; nil before that.
  mutating func add(_ part: UnsafeBufferPointer<UInt8>, key: String, isLast: Bool) -> [UInt8]? {
    var bytes: [UInt8] = []
    if let index = lines.firstIndex(where: { $0.key == key }) { bytes = lines.remove(at: index).bytes }
    bytes.append(contentsOf: part.prefix(Self.lineBytes - bytes.count))
    if isLast { return bytes }
    if lines.count >= Self.openLines { lines.removeFirst() }
    lines.append((key, bytes))
    return nil
  }
}
