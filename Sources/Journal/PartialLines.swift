import EventLoop

/// Puts together the parts of long lines, which the engine writes as entries of 16 KiB at most.
///
/// One writer of the engine's serves a container's stdout, another its stderr, so that a line is over when
/// anything else comes of its stream. Text that a container leaves behind without a line feed is a part, too,
/// and no last one follows: such a line is over when nothing has come for a while.
struct PartialLines {
  /// What one writer of the engine's writes.
  struct Stream: Hashable {
    let container: String
    let isError: Bool
  }

  /// Where a line began.
  struct Place: Hashable {
    /// Cursor of the entry before its first part; nil when that is the first of the journal.
    let before: String?
    /// Number of its first part among the entries that were read.
    let order: UInt64
  }

  struct Line {
    let stream: Stream
    /// The engine's name of the line; some engines give none, and mark no last part.
    let name: String?
    let place: Place
    fileprivate(set) var bytes: [UInt8]
    /// Of its latest part, milliseconds since 1970, and when that was read.
    fileprivate(set) var timestamp: Int
    fileprivate(set) var time: MonotonicTime
  }

  /// One part.
  struct Part {
    let stream: Stream
    let name: String?
    let isLast: Bool
    let timestamp: Int
    let time: MonotonicTime
  }

  /// Of one line; what is beyond becomes another. The cloud cuts lines at 10,000 characters anyway.
  static let lineBytes = 48 * 1024
  /// Lines that are incomplete at the same time; the one that has waited longest gives way.
  static let openLines = 64
  /// Of all of them.
  static let openBytes = 1024 * 1024

  /// In the order in which their latest parts came.
  private var lines: [Line] = []
  private var bytes = 0

  var count: Int { lines.count }

  /// The first of the lines that are incomplete.
  var oldest: Place? { lines.map(\.place).min { $0.order < $1.order } }

  /// When the line that has waited longest has waited for so long.
  func firstEnd(after patience: Duration) -> MonotonicTime? { lines.first.map { $0.time + patience } }

  /// Takes a part.
  ///
  /// - Parameter place: asked for when the part begins a line and does not end it.
  /// - Returns: the lines that are over, in their order.
  mutating func add(
    _ text: UnsafeBufferPointer<UInt8>, _ part: Part, place: () -> Place
  ) -> [Line] {
    var over: [Line] = []
    var line = end(part.stream)
    if let former = line, former.name != part.name {
      over.append(former)
      line = nil
    }
    if var former = line, former.bytes.count + text.count > Self.lineBytes {
      let rest = Self.incompleteCharacter(at: former.bytes)
      former.bytes.removeLast(rest.count)
      over.append(former)
      line = Self.line(part, bytes: rest, at: place())
    }
    var whole = line ?? Self.line(part, bytes: [], at: part.isLast ? Place(before: nil, order: 0) : place())
    whole.bytes.append(contentsOf: text)
    whole.timestamp = part.timestamp
    whole.time = part.time
    if part.isLast { return over + [whole] }
    lines.append(whole)
    bytes += whole.bytes.count
    while lines.count > Self.openLines || bytes > Self.openBytes { over.append(remove(at: 0)) }
    return over
  }

  private static func line(_ part: Part, bytes: [UInt8], at place: Place) -> Line {
    Line(
      stream: part.stream, name: part.name, place: place, bytes: bytes, timestamp: part.timestamp,
      time: part.time)
  }

  /// The line of a stream that something else follows; nil when none is incomplete.
  mutating func end(_ stream: Stream) -> Line? {
    lines.firstIndex { $0.stream == stream }.map { remove(at: $0) }
  }

  /// The lines of which nothing has come for a while.
  ///
  /// - Parameters:
  ///   - now: nil while there may be more to read.
  ///   - timestamp: of the latest entry, milliseconds since 1970.
  mutating func over(at now: MonotonicTime?, timestamp: Int, after patience: Duration) -> [Line] {
    let milliseconds = Int(patience / .milliseconds(1))
    var over: [Line] = []
    for index in lines.indices.reversed() {
      let line = lines[index]
      if now.map({ $0 - line.time >= patience }) ?? false || timestamp - line.timestamp >= milliseconds {
        over.append(remove(at: index))
      }
    }
    return over.reversed()
  }

  private mutating func remove(at index: Int) -> Line {
    let line = lines.remove(at: index)
    bytes -= line.bytes.count
    return line
  }

  /// The bytes at the end that begin a character of UTF-8 and do not end it: three at most.
  private static func incompleteCharacter(at bytes: [UInt8]) -> [UInt8] {
    for (length, byte) in bytes.suffix(3).reversed().enumerated() where byte & 0xc0 != 0x80 {
      let wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
      return wanted > length + 1 ? Array(bytes.suffix(length + 1)) : []
    }
    return []
  }
}
