import EventLoop

/// Lines of containers that are not known yet: a container writes before anybody has been told of it.
///
/// Kept for a while, and bounded; the container that has the most gives way, so that one that nobody will
/// ever ask for does not push out the first lines of a new service.
struct StrangeLines {
  struct Line {
    let stream: PartialLines.Stream
    let message: String
    /// Milliseconds since 1970.
    let timestamp: Int
    let place: PartialLines.Place
    let arrived: MonotonicTime
  }

  static let limit = 512
  static let byteLimit = 512 * 1024
  /// What a line costs beside its message.
  private static let lineCost = 128

  private var lines: [Line] = []
  private var bytes: [String: Int] = [:]
  private var total = 0

  var isEmpty: Bool { lines.isEmpty }
  var oldest: PartialLines.Place? { lines.map(\.place).min { $0.order < $1.order } }

  mutating func add(_ line: Line) {
    lines.append(line)
    count(line, 1)
    while lines.count > Self.limit || total > Self.byteLimit,
      let most = bytes.max(by: { $0.value < $1.value }),
      let index = lines.firstIndex(where: { $0.stream.container == most.key })
    {
      count(lines.remove(at: index), -1)
    }
  }

  private mutating func count(_ line: Line, _ sign: Int) {
    let cost = sign * (line.message.utf8.count + Self.lineCost)
    total += cost
    let rest = bytes[line.stream.container, default: 0] + cost
    bytes[line.stream.container] = rest == 0 ? nil : rest
  }

  /// Takes out those that a condition holds for, in their order.
  mutating func take(where condition: (Line) -> Bool) -> [Line] {
    let taken = lines.filter(condition)
    guard !taken.isEmpty else { return [] }
    lines.removeAll(where: condition)
    for line in taken { count(line, -1) }
    return taken
  }
}
