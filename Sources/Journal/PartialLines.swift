import EventLoop

/// Puts together the parts of long lines, which the engine writes as entries of 16 KiB at most.
struct PartialLines {
  /// Where a line began.
  struct Place: Hashable {
    /// Cursor of the entry before its first part; nil when that is the first of the journal.
    let before: String?
    /// Number of its first part among the entries that were read.
    let order: UInt64
    /// When its first part was read.
    let time: MonotonicTime
  }

  /// Of one line; what is beyond is dropped. The cloud cuts lines at 10,000 characters anyway.
  static let lineBytes = 48 * 1024
  /// Lines that are incomplete at the same time; the oldest gives way.
  static let openLines = 64

  /// In the order in which their last parts came.
  private var lines: [(key: String, place: Place, bytes: [UInt8])] = []

  var count: Int { lines.count }

  func place(of key: String) -> Place? { lines.first { $0.key == key }?.place }

  /// The first of the lines that are incomplete and began no longer ago than `patience`.
  func oldest(at now: MonotonicTime, within patience: Duration) -> Place? {
    lines.map(\.place).filter { now - $0.time <= patience }.min { $0.order < $1.order }
  }

  /// - Returns: the whole line with its last part; nil before that.
  mutating func add(
    _ part: UnsafeBufferPointer<UInt8>, key: String, isLast: Bool, place: Place
  ) -> [UInt8]? {
    var bytes: [UInt8] = []
    var place = place
    if let index = lines.firstIndex(where: { $0.key == key }) {
      (_, place, bytes) = lines.remove(at: index)
    }
    bytes.append(contentsOf: part.prefix(Self.lineBytes - bytes.count))
    if isLast { return bytes }
    if lines.count >= Self.openLines { lines.removeFirst() }
    lines.append((key, place, bytes))
    return nil
  }
}
