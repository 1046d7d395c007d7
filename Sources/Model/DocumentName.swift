import JSON

/// The kinds of names that a target state document uses (target-state 1.2).
nonisolated struct DocumentName {
  /// As errors call it.
  let type: String
  /// What errors say that a name has to be.
  let rule: String
  private let allowsFirst: @Sendable (UInt8) -> Bool
  private let allowsRest: @Sendable (UInt8) -> Bool

  static let tooLong = "must be at most 255 chars long"
  /// In UTF-16 code units.
  static let maximumLength = 255

  static func isShort(_ text: String) -> Bool {
    text.utf8.count <= maximumLength || text.utf16.count <= maximumLength
  }

  /// At least one character of those allowed.
  func allows(_ name: String) -> Bool {
    guard let first = name.utf8.first, allowsFirst(first) else { return false }
    return name.utf8.dropFirst().allSatisfy(allowsRest)
  }

  static let configVariable = DocumentName(
    type: "ConfigVarName",
    rule: "needs to start with a letter and may only contain alphanumeric characters plus '_' or ':'",
    allowsFirst: { isLetter($0) || $0 == UInt8(ascii: "_") },
    allowsRest: { isWord($0) || $0 == UInt8(ascii: ":") })

  static let environmentVariable = DocumentName(
    type: "EnvVarName",
    rule: "needs to start with a letter and may only contain alphanumeric characters plus '_'",
    allowsFirst: { isLetter($0) || $0 == UInt8(ascii: "_") }, allowsRest: isWord)

  static let label = DocumentName(
    type: "LabelName",
    rule: "may contain printable ASCII characters except space, single/double quotes and backtick",
    allowsFirst: isLabel, allowsRest: isLabel)

  static let docker = DocumentName(
    type: "DockerName", rule: "only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
    allowsFirst: { isLetter($0) || isDigit($0) },
    allowsRest: { isWord($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") })

  /// A whole number of at least 0, or a string that spells one in plain decimal.
  static func numericId(_ value: JSON?) -> Int? {
    let id: Int?
    switch value {
    case .number(let number): id = number.intValue
    case .string(let text): id = numericId(text: text)
    default: id = nil
    }
    return id.flatMap { $0 >= 0 ? $0 : nil }
  }

  private static func numericId(text: String) -> Int? {
    var digits = Array(text.utf8)[...]
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
    digits = digits.drop(while: isBlank)
    while let last = digits.last, isBlank(last) { digits.removeLast() }
    if digits.first == UInt8(ascii: "+") { digits.removeFirst() }
    let whole = digits.prefix(while: isDigit)
    let rest = digits.dropFirst(whole.count)
    guard !whole.isEmpty,
      rest.isEmpty || rest.first == UInt8(ascii: ".") && rest.dropFirst().allSatisfy({ $0 == 0x30 })
    else { return nil }
    return Int(String(decoding: whole, as: UTF8.self))
  }

  @Sendable private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  @Sendable private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }

  @Sendable private static func isWord(_ byte: UInt8) -> Bool {
    isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: "_")
  }

  @Sendable private static func isLabel(_ byte: UInt8) -> Bool {
    (0x21...0x7E).contains(byte) && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "'")
      && byte != UInt8(ascii: "`")
  }
}
