/// Routes compiled for matching without strings: all patterns lie in one piece of memory, in
/// lower case, a parameter as a single colon.
///
/// A pattern without parameters comes before those with some. It is found by its length, so that a
/// request is compared with one or two patterns however many there are.
nonisolated struct RouteTable {
  struct Entry {
    var method: Method
    var start: Int
    var end: Int
    var hasParameters: Bool
    var length: Int { end - start }
  }

  enum Match: Equatable {
    case none
    /// Position of the route.
    case route(Int)
    /// The path belongs to a route, but the escapes of a parameter are broken.
    case undecodable(Range<Int>)
  }

  private var patterns: [UInt8] = []
  private var entries: [Entry] = []
  private var names: [[String]] = []
  /// Positions of the patterns without parameters, by length, and where each length begins.
  private var plain: [Int] = []
  private var plainStarts: [Int] = []
  /// Positions of the others.
  private var parametered: [Int] = []

  init(_ routes: [(method: Method, pattern: String)]) {
    for route in routes {
      let start = patterns.count
      var names: [String] = []
      for segment in route.pattern.split(separator: "/") {
        patterns.append(UInt8(ascii: "/"))
        if segment.hasPrefix(":") {
          patterns.append(UInt8(ascii: ":"))
          names.append(String(segment.dropFirst()))
        } else {
          patterns.append(contentsOf: segment.utf8.map(\.lowercasedASCII))
        }
      }
      if patterns.count == start { patterns.append(UInt8(ascii: "/")) }
      self.names.append(names)
      entries.append(
        Entry(
          method: route.method, start: start, end: patterns.count, hasParameters: !names.isEmpty))
    }
    parametered = entries.indices.filter { entries[$0].hasParameters }
    let longest = entries.map(\.length).max() ?? 0
    for length in 0...longest {
      plainStarts.append(plain.count)
      plain += entries.indices.filter { !entries[$0].hasParameters && entries[$0].length == length }
    }
    plainStarts.append(plain.count)
  }

  func parameterNames(_ position: Int) -> [String] { names[position] }

  /// The first route of that method and path. HEAD goes to `get` routes.
  ///
  /// - Parameter parameters: gets the ranges of the path that stand for parameters.
  func match(
    _ method: Method, _ path: UnsafeBufferPointer<UInt8>, parameters: inout [Range<Int>]
  ) -> Match {
    if !parameters.isEmpty { parameters.removeAll(keepingCapacity: true) }
    return patterns.withUnsafeBufferPointer { patterns in
      let length = path.last == UInt8(ascii: "/") && path.count > 1 ? path.count - 1 : path.count
      if length + 1 < plainStarts.count {
        for index in plainStarts[length]..<plainStarts[length + 1] {
          let entry = entries[plain[index]]
          guard answers(entry, method), matches(patterns, entry, path, &parameters) else { continue }
          return .route(plain[index])
        }
      }
      for position in parametered {
        let entry = entries[position]
        guard matches(patterns, entry, path, &parameters) else { continue }
        if let broken = undecodable(parameters, path) { return .undecodable(broken) }
        if answers(entry, method) { return .route(position) }
      }
      return .none
    }
  }

  @inline(__always)
  private func answers(_ entry: Entry, _ method: Method) -> Bool {
    entry.method == method || method == .head && entry.method == .get
  }

  /// Methods of the routes of that path, in their order, HEAD after GET.
  func methods(of path: UnsafeBufferPointer<UInt8>) -> [Method] {
    var methods: [Method] = []
    var parameters: [Range<Int>] = []
    patterns.withUnsafeBufferPointer { patterns in
      for entry in entries where matches(patterns, entry, path, &parameters) {
        if !methods.contains(entry.method) { methods.append(entry.method) }
        if entry.method == .get, !methods.contains(.head) { methods.append(.head) }
      }
    }
    return methods
  }

  private func undecodable(_ ranges: [Range<Int>], _ path: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
    ranges.first { range in
      let raw = path.slice(range)
      return raw.contains(UInt8(ascii: "%")) && PercentCoding.decode(raw, plusIsBlank: false) == nil
    }
  }

  @inline(__always)
  private func matches(
    _ patterns: UnsafeBufferPointer<UInt8>, _ entry: Entry, _ path: UnsafeBufferPointer<UInt8>,
    _ parameters: inout [Range<Int>]
  ) -> Bool {
    if entry.hasParameters { parameters.removeAll(keepingCapacity: true) }
    var at = 0
    var position = entry.start
    while position < entry.end {
      let wanted = patterns[position]
      if wanted == UInt8(ascii: ":") {
        let start = at
        while at < path.count, path[at] != UInt8(ascii: "/") { at += 1 }
        guard at > start else { return false }
        parameters.append(start..<at)
      } else {
        guard at < path.count, path[at].lowercasedASCII == wanted else { return false }
        at += 1
      }
      position += 1
    }
    return at == path.count || at == path.count - 1 && path[at] == UInt8(ascii: "/")
  }
}
