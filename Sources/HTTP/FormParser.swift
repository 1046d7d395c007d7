import JSON

/// Parses `application/x-www-form-urlencoded` bodies (specification, http-api 2.4).
///
/// Brackets nest: `a[b]=1` is an object in an object, `a[]=1` appends to an array, `a[0]=1`
/// too as long as the index is small. A key that comes again makes an array of its values.
nonisolated enum FormParser {
  /// Indices above this make an object: an array must not be as long as a client says.
  private static let largestIndex = 100

  static func parse(_ bytes: [UInt8]) throws(BodyError) -> JSON {
    if bytes.isEmpty { return [:] }
    let separators = bytes.reduce(0) { $1 == UInt8(ascii: "&") ? $0 + 1 : $0 }
    guard separators < Limits.formParameters else { throw .tooManyParameters }

    var root = Node.Object()
    for (key, values) in pairs(bytes) {
      let path = try segments(of: key)
      let leaf: Node = values.count == 1 ? .text(values[0]) : .array(values.map(Node.text))
      guard let first = path.first else { continue }
      root.merge(first, build(path.dropFirst(), leaf))
    }
    return Node.object(root).json
  }

  /// Decoded pairs; values of equal keys are gathered at the first one's place.
  private static func pairs(_ bytes: [UInt8]) -> [(key: String, values: [String])] {
    var pairs: [(key: String, values: [String])] = []
    var positions: [String: Int] = [:]
    bytes.withUnsafeBufferPointer { buffer in
      PercentCoding.forEachPair(buffer) { key, value in
        let key = PercentCoding.decodeLeniently(key)
        let value = PercentCoding.decodeLeniently(value)
        if let position = positions[key] {
          pairs[position].values.append(value)
        } else {
          positions[key] = pairs.count
          pairs.append((key, [value]))
        }
      }
    }
    return pairs
  }

  /// `a[b][]` is `a`, `b` and an empty segment. A key without complete brackets is one segment.
  private static func segments(of key: String) throws(BodyError) -> [String] {
    var segments: [String] = []
    var rest = Array(key.utf8)[...]
    while let group = firstGroup(rest) {
      if segments.isEmpty, group.lowerBound > rest.startIndex {
        segments.append(String(decoding: rest[..<group.lowerBound], as: UTF8.self))
      }
      segments.append(String(decoding: rest[(group.lowerBound + 1)..<(group.upperBound - 1)], as: UTF8.self))
      rest = rest[group.upperBound...]
      guard segments.count <= Limits.formDepth + 1 else { throw .tooDeep }
    }
    return segments.isEmpty ? [key] : segments
  }

  /// The first `[…]` without brackets inside.
  private static func firstGroup(_ bytes: ArraySlice<UInt8>) -> Range<Int>? {
    var start: Int?
    for at in bytes.indices {
      switch bytes[at] {
      case UInt8(ascii: "["): start = at
      case UInt8(ascii: "]"):
        if let start { return start..<at + 1 }
      default: break
      }
    }
    return nil
  }

  private static func build(_ path: ArraySlice<String>, _ leaf: Node) -> Node {
    guard let segment = path.first else { return leaf }
    let inner = build(path.dropFirst(), leaf)
    if segment.isEmpty {
      if case .array = inner { return inner }
      return .array([inner])
    }
    if let index = Int(segment), String(index) == segment, 0...largestIndex ~= index {
      return .array([Node?](repeating: nil, count: index) + [inner])
    }
    return .object([segment: inner])
  }
}

/// What a form builds up: like JSON, with arrays that have holes until the end.
private nonisolated indirect enum Node {
  case text(String)
  /// Not a value of its own but a mark: a name was given where an object stands.
  case present
  case array([Node?])
  case object(Object)

  struct Object: ExpressibleByDictionaryLiteral {
    private(set) var keys: [String] = []
    private var values: [String: Node] = [:]

    init(dictionaryLiteral elements: (String, Node)...) {
      for (key, value) in elements { merge(key, value) }
    }

    subscript(key: String) -> Node? { values[key] }

    mutating func merge(_ key: String, _ node: Node) {
      if let existing = values.removeValue(forKey: key) {
        values[key] = existing.merged(with: node)
      } else {
        keys.append(key)
        values[key] = node
      }
    }
  }

  func merged(with other: Node) -> Node {
    switch (self, other) {
    case (.text, .array(let items)), (.present, .array(let items)):
      return .array([self] + items)
    case (.text, _), (.present, _):
      return .array([self, other])
    case (.array(let items), .text), (.array(let items), .present):
      return .array(items + [other])
    case (.array(var items), .array(let others)):
      for (position, item) in others.enumerated() {
        guard let item else { continue }
        if position >= items.count {
          items.append(contentsOf: [Node?](repeating: nil, count: position - items.count) + [item])
        } else if let existing = items[position] {
          if existing.isContainer, item.isContainer {
            items[position] = existing.merged(with: item)
          } else {
            items.append(item)
          }
        } else {
          items[position] = item
        }
      }
      return .array(items)
    case (.array(let items), .object(let object)):
      var result = Self.indexed(items)
      for key in object.keys { object[key].map { result.merge(key, $0) } }
      return .object(result)
    case (.object(var object), .text(let name)):
      object.merge(name, .present)
      return .object(object)
    case (.object, .present):
      return self
    case (.object(var object), .array(let items)):
      let others = Self.indexed(items)
      for key in others.keys { others[key].map { object.merge(key, $0) } }
      return .object(object)
    case (.object(var object), .object(let others)):
      for key in others.keys { others[key].map { object.merge(key, $0) } }
      return .object(object)
    }
  }

  private static func indexed(_ items: [Node?]) -> Object {
    var object = Object()
    for (position, item) in items.enumerated() { item.map { object.merge(String(position), $0) } }
    return object
  }

  private var isContainer: Bool {
    switch self {
    case .array, .object: true
    case .text, .present: false
    }
  }

  var json: JSON {
    switch self {
    case .text(let text): return .string(text)
    case .present: return .bool(true)
    case .array(let items): return .array(items.compactMap { $0?.json })
    case .object(let object):
      var members = JSONObject()
      for key in object.keys { members[key] = object[key]?.json }
      return .object(members)
    }
  }
}
