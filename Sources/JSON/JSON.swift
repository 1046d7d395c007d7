/// A JSON value that keeps what a document said.
///
/// Members of an object keep their order and numbers keep their spelling, because
/// both are significant here: the first release and the first network of a target
/// state count (specification, target-state 0), and config.json belongs to the host
/// and must not be written back differently (host 2.3).
///
/// Comparison is by meaning: the order of members does not matter, `1` equals `1.0`, and numbers that
/// no `Double` can tell apart are still different.
public nonisolated enum JSON: Sendable, Hashable {
  case null
  case bool(Bool)
  case number(JSONNumber)
  case string(String)
  case array([JSON])
  case object(JSONObject)
}

/// A number as it was written.
public nonisolated struct JSONNumber: Sendable {
  /// The number's text, valid by the grammar of RFC 8259 section 6.
  public let text: String

  public init(_ value: Int) { text = String(value) }

  /// - Returns: nil when `value` is not finite.
  public init?(_ value: Double) {
    guard value.isFinite else { return nil }
    if value == value.rounded(), abs(value) < 9_007_199_254_740_992 {
      text = String(Int(value))
    } else {
      text = "\(value)"
    }
  }

  init(validated text: String) { self.text = text }

  public var doubleValue: Double { Double(text) ?? 0 }

  /// The value when it is whole and fits, whatever its spelling (`5`, `5.0`, `5e0`).
  public var intValue: Int? {
    if let exact = Int(text) { return exact }
    let value = doubleValue
    guard value == value.rounded(), abs(value) < 9_007_199_254_740_992 else { return nil }
    return Int(value)
  }
}

nonisolated extension JSONNumber: Hashable {
  public static func == (a: JSONNumber, b: JSONNumber) -> Bool {
    a.text == b.text || Decimal(a.text) == Decimal(b.text)
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(Decimal(text)) }

  /// A number's exact value, which a `Double` cannot always hold: digits times a power of ten.
  private struct Decimal: Hashable {
    var isNegative = false
    /// Without zeros at either end; empty for zero.
    var digits: [UInt8] = []
    /// Of the last digit.
    var exponent = 0
    /// Set instead of the above when even the exponent does not fit.
    var unreadable: String?

    init(_ text: String) {
      var pastPoint = 0
      var isFraction = false
      var rest = text.utf8[...]
      while let byte = rest.popFirst() {
        switch byte {
        case UInt8(ascii: "-"): isNegative = true
        case UInt8(ascii: "."): isFraction = true
        case UInt8(ascii: "e"), UInt8(ascii: "E"):
          if rest.first == UInt8(ascii: "+") { rest.removeFirst() }
          guard let power = Int(Substring(rest)), abs(power) < 1 << 40 else {
            unreadable = text
            return
          }
          exponent = power
          rest = rest[rest.endIndex...]
        default:
          if isFraction { pastPoint += 1 }
          if byte != UInt8(ascii: "0") || !digits.isEmpty { digits.append(byte) }
        }
      }
      exponent -= pastPoint
      while digits.last == UInt8(ascii: "0") {
        digits.removeLast()
        exponent += 1
      }
      if digits.isEmpty { (isNegative, exponent) = (false, 0) }
    }
  }
}

/// The members of an object, in the order of the document.
///
/// Objects of a target state are small; a member is found by walking the list until
/// the object has grown past `indexThreshold` members, by a dictionary afterwards.
public nonisolated struct JSONObject: Sendable {
  public typealias Member = (key: String, value: JSON)

  private var storage: [Entry] = []
  private var index: [String: Int]?

  fileprivate struct Entry: Sendable {
    var key: String
    var value: JSON
  }

  private static let indexThreshold = 32

  public init() {}

  /// Later members replace earlier ones of the same name, in the earlier one's place.
  public init(_ members: some Sequence<Member>) {
    for (key, value) in members { self[key] = value }
  }

  public var count: Int { storage.count }
  public var isEmpty: Bool { storage.isEmpty }
  public var keys: [String] { storage.map(\.key) }
  public var values: [JSON] { storage.map(\.value) }
  public var first: Member? { storage.first.map { ($0.key, $0.value) } }

  /// Setting nil removes the member; a new member goes to the end.
  public subscript(key: String) -> JSON? {
    get { position(of: key).map { storage[$0].value } }
    set {
      switch (position(of: key), newValue) {
      case (let at?, let value?): storage[at].value = value
      case (let at?, nil):
        storage.remove(at: at)
        index = nil
        buildIndexIfLarge()
      case (nil, let value?):
        index?[key] = storage.count
        storage.append(Entry(key: key, value: value))
        if index == nil { buildIndexIfLarge() }
      case (nil, nil): break
      }
    }
  }

  private func position(of key: String) -> Int? {
    if let index { return index[key] }
    return storage.firstIndex { $0.key == key }
  }

  private mutating func buildIndexIfLarge() {
    guard storage.count > Self.indexThreshold else { return }
    index = Dictionary(uniqueKeysWithValues: storage.enumerated().map { ($1.key, $0) })
  }
}

nonisolated extension JSONObject: Sequence {
  public struct Iterator: IteratorProtocol {
    private var inner: IndexingIterator<[Entry]>

    fileprivate init(_ storage: [Entry]) { inner = storage.makeIterator() }

    public mutating func next() -> Member? { inner.next().map { ($0.key, $0.value) } }
  }

  public var underestimatedCount: Int { storage.count }

  public func makeIterator() -> Iterator { Iterator(storage) }
}

nonisolated extension JSONObject: Hashable {
  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.count == b.count && a.storage.allSatisfy { b[$0.key] == $0.value }
  }

  public func hash(into hasher: inout Hasher) {
    // A sum does not depend on the order of the members.
    var sum = 0
    for entry in storage {
      var member = Hasher()
      member.combine(entry.key)
      member.combine(entry.value)
      sum &+= member.finalize()
    }
    hasher.combine(sum)
  }
}

nonisolated extension JSONObject: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral elements: (String, JSON)...) {
    for (key, value) in elements { self[key] = value }
  }
}

// MARK: - Convenience

nonisolated extension JSON {
  public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
  public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var intValue: Int? { if case .number(let value) = self { value.intValue } else { nil } }
  public var doubleValue: Double? {
    if case .number(let value) = self { value.doubleValue } else { nil }
  }
  public var arrayValue: [JSON]? { if case .array(let value) = self { value } else { nil } }
  public var objectValue: JSONObject? { if case .object(let value) = self { value } else { nil } }
  public var isNull: Bool { if case .null = self { true } else { false } }

  /// The member of an object; nil for every other kind of value.
  public subscript(key: String) -> JSON? { objectValue?[key] }

  /// An object of strings, sorted by key: equal maps have equal text.
  public init(_ map: [String: String]) {
    self = .object(JSONObject(map.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
  }

  public init(_ list: [String]) { self = .array(list.map(JSON.string)) }

  /// `value`, or `null` for nil.
  public init(_ value: String?) { self = value.map(JSON.string) ?? .null }
}

nonisolated extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral,
  ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .number(JSONNumber(value)) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  public init(nilLiteral: ()) { self = .null }
  public init(dictionaryLiteral elements: (String, JSON)...) {
    self = .object(JSONObject(elements.map { ($0.0, $0.1) }))
  }

  public static func int(_ value: Int) -> JSON { .number(JSONNumber(value)) }
}
