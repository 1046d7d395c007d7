import Database
import HTTP

/// The valid keys as requests are checked against them: no allocation, no database.
final class KeyRing {
  private let store: APIKeyStore
  private let everyone: Caller
  private var revision: UInt64?
  private var entries: [(key: [UInt8], caller: Caller)] = []

  init(_ store: APIKeyStore, everyone: Caller) {
    self.store = store
    self.everyone = everyone
  }

  /// The owner of a key; nil for one that is not (or no longer) valid. All keys are compared, each
  /// in full: the time says nothing about how much of a guess was right.
  func caller(_ candidate: UnsafeBufferPointer<UInt8>) -> Caller? {
    if revision != store.revision { reload() }
    var match = -1
    for position in entries.indices where Self.isEqual(entries[position].key, candidate) {
      match = position
    }
    return match >= 0 ? entries[match].caller : nil
  }

  private func reload() {
    entries = store.all.filter { !$0.key.isEmpty }.map { (Array($0.key.utf8), Caller.of($0, like: everyone)) }
    revision = store.revision
  }

  /// In a time that depends on the lengths alone, which are no secret.
  private static func isEqual(_ key: [UInt8], _ candidate: UnsafeBufferPointer<UInt8>) -> Bool {
    guard key.count == candidate.count else { return false }
    return key.withUnsafeBufferPointer { key in
      var difference: UInt8 = 0
      for position in 0..<candidate.count { difference |= key[position] ^ candidate[position] }
      return difference == 0
    }
  }
}

// Where the key stands (http-api 2.7). The query's `apikey` comes before the header: a query that
// has one rules, even when its value is wrong. An empty, repeated or bracketed one counts as none.
extension Request {
  /// Calls `body` with the bytes of the key that the request carries.
  ///
  /// - Returns: nil when the request carries none.
  func withPresentedKey<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result?) -> Result? {
    if let query = queryBytes, query.count >= 6 {
      // Only escapes can hide a name.
      if query.contains(UInt8(ascii: "%")) || query.contains(UInt8(ascii: "+")) {
        if var key = decodedQueryKey { return key.withUTF8(body) }
      } else if let key = Self.key(inPlain: query) {
        return body(key)
      }
    }
    guard let header = headerBytes("Authorization"), let key = Self.key(inHeader: header) else { return nil }
    return body(key)
  }

  /// The key as a text, for the one route that changes it.
  var presentedKey: String? { withPresentedKey { String(decoding: $0, as: UTF8.self) } }

  private var decodedQueryKey: String? {
    let values = query("apikey")
    guard values.count == 1, let value = values.first, !value.isEmpty else { return nil }
    return value
  }

  private static func key(inPlain query: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8>? {
    var found: Range<Int>?
    var start = 0
    while start < query.count {
      var end = start
      while end < query.count, query[end] != UInt8(ascii: "&") { end += 1 }
      if hasName(query, start..<end) {
        guard found == nil, start + 6 < end, query[start + 6] == UInt8(ascii: "=") else { return nil }
        found = start + 7..<end
      }
      start = end + 1
    }
    guard let found, !found.isEmpty else { return nil }
    return UnsafeBufferPointer(rebasing: query[found])
  }

  /// `apikey`, alone or before `=` or `[`.
  private static func hasName(_ query: UnsafeBufferPointer<UInt8>, _ item: Range<Int>) -> Bool {
    guard item.count >= 6 else { return false }
    let name: StaticString = "apikey"
    for position in 0..<6 where query[item.lowerBound + position] != name.utf8Start[position] { return false }
    if item.count == 6 { return true }
    let next = query[item.lowerBound + 6]
    return next == UInt8(ascii: "=") || next == UInt8(ascii: "[")
  }

  /// `ApiKey` or `Bearer` in any case, one blank, and a key of letters, digits and `_`.
  private static func key(inHeader value: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8>? {
    guard value.count > 7, value[6] == UInt8(ascii: " ") else { return nil }
    guard isScheme("apikey", value) || isScheme("bearer", value) else { return nil }
    let key = UnsafeBufferPointer(rebasing: value[7...])
    for byte in key where !isKeyByte(byte) { return nil }
    return key
  }

  private static func isScheme(_ scheme: StaticString, _ value: UnsafeBufferPointer<UInt8>) -> Bool {
    for position in 0..<6 where value[position] | 0x20 != scheme.utf8Start[position] { return false }
    return true
  }

  private static func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
