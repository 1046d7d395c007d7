import JSON

/// What a setting's value may be, and how other forms of it are understood (host 2.1).
public nonisolated enum SettingRule: Sendable, Hashable {
  case string
  /// A number, or a text that begins with a whole number.
  case number
  /// A boolean, or what stands for one; null is false.
  case boolean
  /// `{"app": number, "commit": string}`, or JSON text of it.
  case pin
  /// An object of strings, or JSON text of it.
  case stringMap
  /// An object of any content.
  case object

  /// The value in its one form, nil when it breaks the rule.
  public func coerce(_ value: JSON) -> JSON? {
    switch self {
    case .string: return value.stringValue.map(JSON.string)
    case .number:
      if case .number = value { return value }
      return value.stringValue.flatMap(Self.leadingInteger).map(JSON.int)
    case .boolean: return Self.boolean(value).map(JSON.bool)
    case .pin:
      guard let object = Self.object(value), object["commit"]?.stringValue != nil,
        case .number? = object["app"]
      else { return nil }
      return .object(object)
    case .stringMap:
      guard let object = Self.object(value), object.allSatisfy({ $0.value.stringValue != nil }) else {
        return nil
      }
      return .object(object)
    case .object: return value.objectValue.map(JSON.object)
    }
  }

  /// The value as the text of a row.
  static func text(_ value: JSON) -> String { value.stringValue ?? value.serialized() }

  private static func object(_ value: JSON) -> JSONObject? {
    if let text = value.stringValue { return (try? JSON(parsing: text))?.objectValue }
    return value.objectValue
  }

  private static func boolean(_ value: JSON) -> Bool? {
    switch value {
    case .null: false
    case .bool(let flag): flag
    case .string(let text): Self.truth(of: text)
    case .number(let number):
      switch number.doubleValue {
      case 1: true
      case 0: false
      default: nil
      }
    default: nil
    }
  }

  /// `1`, `true`, `on` and `0`, `false`, `off` in any case; nil for every other text.
  public static func truth(of text: String) -> Bool? {
    switch text.lowercased() {
    case "1", "true", "on": true
    case "0", "false", "off": false
    default: nil
    }
  }

  /// The whole number at a text's begin, after blanks and a sign; what follows it does not matter.
  static func leadingInteger(_ text: String) -> Int? {
    let trimmed = text.drop { $0.isWhitespace }
    let sign = trimmed.prefix { $0 == "-" || $0 == "+" }
    guard sign.count <= 1 else { return nil }
    let digits = trimmed.dropFirst(sign.count).prefix { $0.isASCII && $0.isNumber }
    return Int(sign + digits)
  }
}
