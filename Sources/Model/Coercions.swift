import JSON

/// How loosely typed values of requests, labels and compositions are understood (http-api 3).
public nonisolated enum Coercions {
  /// INT: optional `-`, digits, optional `.`, then only zeros; a number is first printed.
  public static func integer(_ value: JSON?) -> Int? {
    switch value {
    case .number(let number): number.intValue
    case .string(let text): integer(text: text)
    case .array(let values) where values.count == 1: integer(values[0])
    default: nil
    }
  }

  /// INT+: INT and more than 0.
  public static func positiveInteger(_ value: JSON?) -> Int? {
    integer(value).flatMap { $0 > 0 ? $0 : nil }
  }

  /// TRUTHY: `true`, `1`, and the strings `1`, `true`, `on` in any case.
  public static func isTruthy(_ value: JSON?) -> Bool {
    switch value {
    case .bool(let value): value
    case .number(let number): number.doubleValue == 1
    case .string(let text): ["1", "true", "on"].contains(text.lowercased())
    default: false
    }
  }

  /// FALSEY: `false`, `0`, and the strings `0`, `false`, `off` in any case.
  public static func isFalsey(_ value: JSON?) -> Bool {
    switch value {
    case .bool(let value): !value
    case .number(let number): number.doubleValue == 0
    case .string(let text): ["0", "false", "off"].contains(text.lowercased())
    default: false
    }
  }

  /// STR: a string that is not empty, `null` or `undefined`.
  public static func text(_ value: JSON?) -> String? {
    guard case .string(let text) = value, !text.isEmpty, text != "null", text != "undefined" else {
      return nil
    }
    return text
  }

  /// Anything but missing, `null`, `false`, `0` and the empty string.
  public static func isSet(_ value: JSON?) -> Bool {
    switch value {
    case nil, .null: false
    case .bool(let value): value
    case .number(let number): number.doubleValue != 0
    case .string(let text): !text.isEmpty
    case .array, .object: true
    }
  }

  /// A scalar as text; nil for lists, objects and `null`.
  public static func scalarText(_ value: JSON) -> String? {
    switch value {
    case .string(let text): text
    case .number(let number): number.intValue.map { String($0) } ?? number.text
    case .bool(let value): value ? "true" : "false"
    case .null, .array, .object: nil
    }
  }

  private static func integer(text: String) -> Int? {
    let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    let whole = parts[0]
    let digits = whole.hasPrefix("-") ? whole.dropFirst() : whole
    guard
      !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      parts.count == 1 || parts[1].utf8.allSatisfy({ $0 == 0x30 })
    else { return nil }
    return Int(whole)
  }
}
