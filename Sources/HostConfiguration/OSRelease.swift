/// The host's os-release file (os-release(5); host 11).
public nonisolated struct OSRelease: Sendable, Hashable {
  public let fields: [String: String]

  /// Parses lines of `KEY=value`. Values are unquoted as a shell would: single quotes keep everything,
  /// double quotes know `\"`, `\\`, `\$` and `` \` ``, a backslash outside of quotes keeps the next
  /// character. Blank lines, comments and lines without `=` are skipped; the last of equal keys wins.
  public init(parsing text: String) {
    var fields: [String: String] = [:]
    for line in text.split(omittingEmptySubsequences: true, whereSeparator: \.isNewline) {
      let line = line.trimmingBlanks()
      guard !line.hasPrefix("#"), let equals = line.firstIndex(of: "=") else { continue }
      let key = line[..<equals].trimmingBlanks()
      guard !key.isEmpty else { continue }
      fields[String(key)] = Self.unquote(line[line.index(after: equals)...].trimmingBlanks())
    }
    self.fields = fields
  }

  public subscript(field: String) -> String? { fields[field] }

  /// What the device reports as `os_version`.
  public var prettyName: String? { fields["PRETTY_NAME"] }
  public var id: String? { fields["ID"] }
  public var version: String? { fields["VERSION"] }
  public var metaRelease: String? { fields["META_BALENA_VERSION"] }
  public var boardRevision: String? { fields["BALENA_BOARD_REV"] ?? fields["RESIN_BOARD_REV"] }

  /// `VARIANT_ID`; without one, by the development mode of config.json.
  public func variant(isDevelopmentMode: Bool) -> String {
    fields["VARIANT_ID"] ?? (isDevelopmentMode ? "dev" : "prod")
  }

  private static func unquote(_ text: Substring) -> String {
    var output = ""
    var quote: Character?
    var rest = text
    while let character = rest.popFirst() {
      switch (quote, character) {
      case (nil, "'"), (nil, "\""): quote = character
      case ("'", "'"), ("\"", "\""): quote = nil
      case ("\"", "\\"):
        if let next = rest.first, "\"\\$`".contains(next) {
          output.append(next)
          rest.removeFirst()
        } else {
          output.append(character)
        }
      case (nil, "\\"): if let next = rest.popFirst() { output.append(next) }
      default: output.append(character)
      }
    }
    return output
  }
}

nonisolated extension Substring {
  fileprivate func trimmingBlanks() -> Substring {
    var result = self
    while let first = result.first, first.isWhitespace { result.removeFirst() }
    while let last = result.last, last.isWhitespace { result.removeLast() }
    return result
  }
}
