import JSON

/// Memory sizes, durations and CPU shares as compositions write them (target-state 3.3 and 3.8).
public nonisolated enum Quantities {
  /// Bytes: digits, optionally one of `b k m g`, optionally `b`; or a whole number.
  ///
  /// - Returns: nil for anything else.
  public static func memory(_ value: JSON) -> Int? {
    switch value {
    case .number(let number): number.intValue.flatMap { $0 >= 0 ? $0 : nil }
    case .string(let text): memory(text)
    default: nil
    }
  }

  private static func memory(_ text: String) -> Int? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int(digits) else { return nil }
    let unit = text.dropFirst(digits.count).lowercased()
    let shift: Int
    switch unit {
    case "", "b", "bb": shift = 0
    case "k", "kb": shift = 10
    case "m", "mb": shift = 20
    case "g", "gb": shift = 30
    default: return nil
    }
    let (bytes, isTooLarge) = count.multipliedReportingOverflow(by: 1 << shift)
    return isTooLarge ? nil : bytes
  }

  /// Whole milliseconds: a number of them, or one or more `<number><unit>`, such as `1m30s`.
  public static func milliseconds(_ value: JSON) throws(ModelError) -> Int {
    let total: Double
    switch value {
    case .number(let number): total = number.doubleValue
    case .string(let text): total = try milliseconds(text)
    default: throw ModelError("invalid duration")
    }
    // Beyond this, nanoseconds do not fit.
    guard total >= 0, total < 9_000_000_000_000 else { throw ModelError("invalid duration") }
    return Int(total)
  }

  private static func milliseconds(_ text: String) throws(ModelError) -> Double {
    if text == "0" { return 0 }
    var rest = Substring(text)
    var total = 0.0
    var hasPart = false
    while true {
      rest = rest.drop { $0.isWhitespace || $0 == "," || $0 == "_" }
      if rest.isEmpty { break }
      let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
      guard let count = Double(digits) else { throw ModelError("invalid duration") }
      rest = rest.dropFirst(digits.count).drop { $0.isWhitespace }
      let unit = rest.prefix(while: \.isLetter)
      guard !unit.isEmpty else { throw ModelError("invalid duration") }
      guard let factor = milliseconds(unit: unit) else { throw ModelError("invalid unit: \(unit)") }
      rest = rest.dropFirst(unit.count)
      total += count * factor
      hasPart = true
    }
    guard hasPart else { throw ModelError("invalid duration") }
    return total
  }

  private static func milliseconds(unit: Substring) -> Double? {
    switch unit {
    case "ns": 1e-6
    case "us", "\u{B5}s", "\u{3BC}s": 1e-3
    case "ms": 1
    case "s": 1000
    case "m": 60_000
    case "h": 3_600_000
    case "d": 86_400_000
    case "w": 604_800_000
    default: nil
    }
  }

  /// Billionths of a CPU; nil for what is not a number.
  public static func nanoCpus(_ value: JSON) -> Int? {
    let number: Double? =
      switch value {
      case .number(let number): number.doubleValue
      case .string(let text):
        text.allSatisfy(\.isWhitespace) ? 0 : Double(ServiceMapping.trimmed(text[...]))
      default: nil
      }
    guard let number, number.isFinite, abs(number) < 1_000_000 else { return nil }
    return Int((number * 1_000_000_000).rounded())
  }
}
