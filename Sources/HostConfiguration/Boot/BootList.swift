import JSON

/// A list as a variable's text: JSON strings separated by commas, without brackets.
nonisolated enum BootList {
  static func decode(_ text: String) throws(BootError) -> [String] {
    guard let items = (try? JSON(parsing: "[\(text)]"))?.arrayValue else {
      throw BootError("'\(text)' is not a list of quoted texts")
    }
    var texts: [String] = []
    for item in items {
      switch item {
      case .string(let text): texts.append(text)
      case .number(let number): texts.append(number.text)
      case .bool(let flag): texts.append(flag ? "true" : "false")
      default: throw BootError("'\(item.serialized())' is not a text")
      }
    }
    return texts
  }
}
