/// A version by the grammar and order of Semantic Versioning 2.0.0; build metadata is dropped.
nonisolated struct SemanticVersion: Sendable, Hashable {
  var major: Int
  var minor: Int
  var patch: Int
  var prerelease: [Identifier] = []

  /// One of the parts of `-rc.1`.
  enum Identifier: Sendable, Hashable {
    /// Digits without leading zeros, of any length.
    case number(String)
    case text(String)
  }

  /// Longest text that counts as a version.
  static let longestText = 256
  /// The largest number that every tool of this format can hold.
  static let largestNumber = 9_007_199_254_740_991

  init(_ major: Int, _ minor: Int, _ patch: Int, prerelease: [Identifier] = []) {
    (self.major, self.minor, self.patch, self.prerelease) = (major, minor, patch, prerelease)
  }

  /// Parses `[v]major.minor.patch[-prerelease][+build]`; blanks around it do not count.
  init?(parsing text: String) {
    guard text.utf8.count <= Self.longestText else { return nil }
    self.init(parsing: VersionText.trimmed(Substring(text)))
  }

  init?(parsing text: Substring) {
    guard let partial = PartialVersion(text), partial.prefix.isEmpty || partial.prefix == "v",
      let major = partial.major, let minor = partial.minor, let patch = partial.patch
    else { return nil }
    self.init(major, minor, patch, prerelease: partial.prerelease)
  }
}

nonisolated extension SemanticVersion: Comparable {
  static func < (a: SemanticVersion, b: SemanticVersion) -> Bool {
    let (left, right) = ((a.major, a.minor, a.patch), (b.major, b.minor, b.patch))
    if left != right { return left < right }
    // A prerelease comes before its release.
    if a.prerelease.isEmpty || b.prerelease.isEmpty { return !a.prerelease.isEmpty && b.prerelease.isEmpty }
    return a.prerelease.lexicographicallyPrecedes(b.prerelease)
  }
}

nonisolated extension SemanticVersion.Identifier: Comparable {
  init?(_ text: Substring) {
    guard !text.isEmpty, text.utf8.allSatisfy(VersionText.isWord) else { return nil }
    if text.utf8.allSatisfy(VersionText.isDigit) {
      guard text == "0" || !text.hasPrefix("0") else { return nil }
      self = .number(String(text))
    } else {
      self = .text(String(text))
    }
  }

  static func < (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.number(let a), .number(let b)):
      (a.utf8.count, a) < (b.utf8.count, b)
    case (.number, .text): true
    case (.text, .number): false
    case (.text(let a), .text(let b)): a.utf8.lexicographicallyPrecedes(b.utf8)
    }
  }
}

/// A version of which the last parts may be missing or a wildcard: `1`, `1.x`, `v1.2.*`, `1.2.3-rc.1`.
nonisolated struct PartialVersion {
  /// What stood before the digits: `v`, `=` and blanks.
  var prefix: Substring
  /// nil for a wildcard or a missing part; then what follows means nothing.
  var major: Int?
  var minor: Int?
  var patch: Int?
  var prerelease: [SemanticVersion.Identifier] = []

  init?(_ text: Substring) {
    prefix = text.prefix { $0 == "v" || $0 == "=" || $0.isWhitespace }
    var rest = text.dropFirst(prefix.count)
    var parts: [Part] = []
    while true {
      let digits = rest.prefix { $0 != "." && $0 != "-" && $0 != "+" }
      guard parts.count < 3, let part = Self.part(digits) else { return nil }
      parts.append(part)
      rest = rest.dropFirst(digits.count)
      guard rest.first == "." else { break }
      rest.removeFirst()
    }
    if !rest.isEmpty {
      // Only a version of three parts has more than numbers.
      guard parts.count == 3, let tail = Self.tail(rest) else { return nil }
      prerelease = tail
    }
    major = parts[0].number
    minor = major == nil || parts.count < 2 ? nil : parts[1].number
    patch = minor == nil || parts.count < 3 ? nil : parts[2].number
  }

  private enum Part {
    case number(Int)
    case wildcard

    var number: Int? { if case .number(let number) = self { number } else { nil } }
  }

  private static func part(_ text: Substring) -> Part? {
    if ["x", "X", "*"].contains(text) { return .wildcard }
    guard !text.isEmpty, text.utf8.allSatisfy(VersionText.isDigit), text == "0" || !text.hasPrefix("0"),
      let number = Int(text), number <= SemanticVersion.largestNumber
    else { return nil }
    return .number(number)
  }

  /// `[-prerelease][+build]`
  private static func tail(_ text: Substring) -> [SemanticVersion.Identifier]? {
    let parts = text.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 {
      let build = parts[1].split(separator: ".", omittingEmptySubsequences: false)
      guard build.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(VersionText.isWord) }) else { return nil }
    }
    guard !parts[0].isEmpty else { return [] }
    var identifiers: [SemanticVersion.Identifier] = []
    for part in parts[0].dropFirst().split(separator: ".", omittingEmptySubsequences: false) {
      guard let identifier = SemanticVersion.Identifier(part) else { return nil }
      identifiers.append(identifier)
    }
    return identifiers
  }
}

nonisolated enum VersionText {
  static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  /// Letters, digits and `-`.
  static func isWord(_ byte: UInt8) -> Bool {
    isDigit(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == UInt8(ascii: "-")
  }

  static func trimmed(_ text: Substring) -> Substring {
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}
