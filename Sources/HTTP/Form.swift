import JSON

/// `application/x-www-form-urlencoded` with brackets that nest, as web frameworks read it:
/// `a[b]=1` is `{"a":{"b":"1"}}`, `a=1&a=2` and `a[]=1&a[]=2` are lists.
nonisolated enum Form {
  static let parameterLimit = 1000
  /// Brackets deeper than this stay part of the last name.
  static let depthLimit = 5

  static func parse(_ bytes: [UInt8]) throws(BodyError) -> JSON {
    let items = bytes.split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: true)
    guard items.count <= parameterLimit else { throw BodyError("too many parameters") }
    var root = JSONObject()
    for item in items {
      let parts = item.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      let name = PercentCoding.decodeForm(parts.first ?? [])
      guard !name.isEmpty else { continue }
      let value = parts.count == 2 ? PercentCoding.decodeForm(parts[1]) : ""
      insert(.string(value), at: path(name)[...], into: &root)
    }
    return .object(root)
  }

  /// `a[b][]` is `a`, `b`, and the empty name, which means the next position of a list.
  private static func path(_ name: String) -> [String] {
    guard let open = name.firstIndex(of: "["), open > name.startIndex else { return [name] }
    var path = [String(name[..<open])]
    var rest = name[open...]
    while rest.first == "[", path.count <= depthLimit, let close = rest.firstIndex(of: "]") {
      path.append(String(rest[rest.index(after: rest.startIndex)..<close]))
      rest = rest[rest.index(after: close)...]
    }
    if !rest.isEmpty { path[path.count - 1] += rest }
    return path
  }

  private static func insert(_ value: JSON, at path: ArraySlice<String>, into object: inout JSONObject) {
    guard let name = path.first else { return }
    object[name] = merged(object[name], value, path.dropFirst())
  }

  private static func merged(_ existing: JSON?, _ value: JSON, _ path: ArraySlice<String>) -> JSON {
    guard let name = path.first else {
      switch existing {
      case nil: return value
      case .array(let list): return .array(list + [value])
      case .some(let single): return .array([single, value])
      }
    }
    if name.isEmpty {
      let inner = merged(nil, value, path.dropFirst())
      switch existing {
      case nil: return .array([inner])
      case .array(let list): return .array(list + [inner])
      case .some(let single): return .array([single, inner])
      }
    }
    var object: JSONObject
    switch existing {
    case .object(let members): object = members
    case nil: object = [:]
    case .array(let list):
      object = JSONObject(list.enumerated().map { (String($0.offset), $0.element) })
    case .some(let single): object = [single.stringValue ?? "": true]
    }
    insert(value, at: path, into: &object)
    return .object(object)
  }
}
