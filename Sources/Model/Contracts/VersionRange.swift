/// A range of versions in the language of npm's package `semver`: `^1.2 || >=2.0.0-rc.1 <3`.
///
/// A range is alternatives of comparators that must all hold. `^`, `~`, hyphens and wildcards are
/// shorthand for two comparators. A prerelease is in a range only if an alternative that holds names
/// a prerelease of the same three numbers: who asks for `>=1.2.3-rc.1` has agreed to the release
/// candidates of 1.2.3, not to those of 1.3.
nonisolated struct VersionRange: Sendable {
  private var alternatives: [[Comparator]] = []

  private struct Comparator: Sendable {
    var relation: Relation
    var version: SemanticVersion

    var holdsForAll: Bool { relation == .atLeast && version == SemanticVersion(0, 0, 0) }

    func holds(_ other: SemanticVersion) -> Bool {
      switch relation {
      case .less: other < version
      case .atMost: other <= version
      case .greater: other > version
      case .atLeast: other >= version
      case .equal: other == version
      }
    }
  }

  private enum Relation: String, Sendable {
    case less = "<"
    case atMost = "<="
    case greater = ">"
    case atLeast = ">="
    case equal = "="
  }

  /// - Returns: nil when the text is not a range.
  init?(parsing text: String) {
    // An empty alternative is one without comparators, which anything but a prerelease meets.
    for part in Self.split(text[...]) {
      guard let comparators = Self.alternative(part) else { return nil }
      alternatives.append(comparators.filter { !$0.holdsForAll })
    }
    // Beside an alternative that takes every release, others count for nothing, prereleases included.
    if alternatives.contains(where: \.isEmpty) { alternatives = [[]] }
  }

  func contains(_ version: SemanticVersion) -> Bool {
    alternatives.contains { comparators in
      guard comparators.allSatisfy({ $0.holds(version) }) else { return false }
      guard !version.prerelease.isEmpty else { return true }
      return comparators.contains {
        let named = $0.version
        return !named.prerelease.isEmpty
          && (named.major, named.minor, named.patch) == (version.major, version.minor, version.patch)
      }
    }
  }

  /// The parts between `||`.
  private static func split(_ text: Substring) -> [Substring] {
    var parts: [Substring] = []
    var start = text.startIndex
    var at = text.startIndex
    while at < text.endIndex {
      if text[at...].hasPrefix("||") {
        parts.append(text[start..<at])
        at = text.index(at, offsetBy: 2)
        start = at
      } else {
        at = text.index(after: at)
      }
    }
    return parts + [text[start...]]
  }

  private static func alternative(_ text: Substring) -> [Comparator]? {
    let words = text.split(whereSeparator: \.isWhitespace)
    if words.count == 3, words[1] == "-", let from = PartialVersion(words[0]),
      let to = PartialVersion(words[2])
    {
      return hyphen(from, to)
    }
    // An operator may stand apart from its version.
    var comparators: [Comparator] = []
    var pending = ""
    for word in words {
      let term = pending + word
      if isOperator(term) {
        pending = term
        continue
      }
      pending = ""
      guard let more = comparator(term[...]) else { return nil }
      comparators += more
    }
    return pending.isEmpty ? comparators : nil
  }

  private static func isOperator(_ text: String) -> Bool {
    ["<", ">", "=", "<=", ">=", "~", "~>", "^"].contains(text)
  }

  /// One word of a range as comparators; none when it holds for every version.
  private static func comparator(_ text: Substring) -> [Comparator]? {
    if text.hasPrefix("~") {
      let rest = text.dropFirst()
      return PartialVersion(rest.hasPrefix(">") ? rest.dropFirst() : rest).map(tilde)
    }
    if text.hasPrefix("^") { return PartialVersion(text.dropFirst()).map(caret) }
    var rest = text
    var relation: Relation?
    for prefix in ["<=", ">=", "<", ">", "="] where text.hasPrefix(prefix) {
      relation = Relation(rawValue: prefix)
      rest = text.dropFirst(prefix.count)
      break
    }
    guard let version = PartialVersion(rest) else { return nil }
    if version.patch == nil { return wildcard(relation, version) }
    guard let exact = SemanticVersion(parsing: rest) else { return nil }
    return [Comparator(relation: relation ?? .equal, version: exact)]
  }

  /// `1.x` with what stands before it.
  private static func wildcard(_ relation: Relation?, _ version: PartialVersion) -> [Comparator] {
    guard let major = version.major else {
      switch relation {
      case .less, .greater: return [Comparator(relation: .less, version: lowest(0, 0, 0))]
      default: return []
      }
    }
    let first = SemanticVersion(major, version.minor ?? 0, 0)
    switch relation {
    case nil, .equal: return [Comparator(relation: .atLeast, version: first), below(after(version))]
    case .greater: return [Comparator(relation: .atLeast, version: after(version))]
    case .atLeast: return [Comparator(relation: .atLeast, version: first)]
    case .less: return [below(first)]
    case .atMost: return [below(after(version))]
    }
  }

  /// Changes of the patch number, or of all that is left open.
  private static func tilde(_ version: PartialVersion) -> [Comparator] {
    guard let major = version.major else { return [] }
    let limit = version.minor.map { SemanticVersion(major, $0 + 1, 0) } ?? SemanticVersion(major + 1, 0, 0)
    return [from(version), below(limit)]
  }

  /// Changes right of the first number that is not 0.
  private static func caret(_ version: PartialVersion) -> [Comparator] {
    guard let major = version.major else { return [] }
    let limit: SemanticVersion
    switch (major, version.minor, version.patch) {
    case (0, let minor?, nil): limit = SemanticVersion(0, minor + 1, 0)
    case (0, 0?, let patch?): limit = SemanticVersion(0, 0, patch + 1)
    case (0, let minor?, _): limit = SemanticVersion(0, minor + 1, 0)
    default: limit = SemanticVersion(major + 1, 0, 0)
    }
    return [from(version), below(limit)]
  }

  private static func hyphen(_ first: PartialVersion, _ last: PartialVersion) -> [Comparator]? {
    func isPlain(_ end: PartialVersion) -> Bool {
      end.prefix.isEmpty || end.prefix == "v" || end.patch == nil
    }
    guard isPlain(first), isPlain(last) || !last.prerelease.isEmpty else { return nil }
    var comparators = first.major == nil ? [] : [from(first)]
    if let major = last.major {
      if let minor = last.minor, let patch = last.patch {
        let version = SemanticVersion(major, minor, patch, prerelease: last.prerelease)
        comparators.append(Comparator(relation: .atMost, version: version))
      } else {
        comparators.append(below(after(last)))
      }
    }
    return comparators
  }

  private static func from(_ version: PartialVersion) -> Comparator {
    let isExact = version.patch != nil
    return Comparator(
      relation: .atLeast,
      version: SemanticVersion(
        version.major ?? 0, version.minor ?? 0, version.patch ?? 0,
        prerelease: isExact ? version.prerelease : []))
  }

  /// The first version that is not of the wildcard.
  private static func after(_ version: PartialVersion) -> SemanticVersion {
    let major = version.major ?? 0
    return version.minor.map { SemanticVersion(major, $0 + 1, 0) } ?? SemanticVersion(major + 1, 0, 0)
  }

  /// Below the version and its prereleases.
  private static func below(_ version: SemanticVersion) -> Comparator {
    Comparator(relation: .less, version: lowest(version.major, version.minor, version.patch))
  }

  private static func lowest(_ major: Int, _ minor: Int, _ patch: Int) -> SemanticVersion {
    SemanticVersion(major, minor, patch, prerelease: [.number("0")])
  }
}
