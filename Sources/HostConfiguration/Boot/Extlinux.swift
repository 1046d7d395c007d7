/// extlinux.conf of older Jetson devices (host 4.3; Syslinux wiki, EXTLINUX).
///
/// Two options are managed, in the entry that `DEFAULT` names: `isolcpus` among the words of
/// `APPEND`, and `fdt`, the directive `FDT`. All other lines, comments and indentation stay.
public nonisolated struct Extlinux: Sendable {
  private var source: TextLines

  /// Where the directives of the default entry are.
  private struct Entry {
    var append: Int
    var fdt: Int?
  }

  public init(parsing text: String) { source = TextLines(text) }

  public var text: String { source.text }

  /// Directive in upper case and value; nil for comments, blank lines and what is not understood.
  private static func directive(_ line: String) -> (name: String, value: String)? {
    let text = line.trimmed
    guard let first = text.first, first != "#" else { return nil }
    let name = text.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
    guard !name.isEmpty else { return nil }
    return (name.uppercased(), String(text.dropFirst(name.count).trimmed))
  }

  private func entry() throws(BootError) -> Entry {
    var defaultLabel: String?
    for line in source.lines {
      guard let (name, value) = Self.directive(line.text) else { continue }
      if name == "LABEL" { break }
      if name == "DEFAULT" { defaultLabel = value }
    }
    guard let defaultLabel else {
      throw BootError("Could not find default entry for extlinux.conf file")
    }
    var isInside = false
    var isFound = false
    var append: Int?
    var fdt: Int?
    for (index, line) in source.lines.enumerated() {
      guard let (name, value) = Self.directive(line.text) else { continue }
      if name == "LABEL" {
        isInside = value == defaultLabel
        isFound = isFound || isInside
      } else if isInside, name == "APPEND" {
        append = index
      } else if isInside, name == "FDT" {
        fdt = index
      }
    }
    guard isFound else {
      throw BootError("Cannot find label entry (label: \(defaultLabel)) for extlinux.conf file")
    }
    guard let append else {
      throw BootError("Could not find APPEND directive in default extlinux.conf boot entry")
    }
    return Entry(append: append, fdt: fdt)
  }

  public func options() throws(BootError) -> BootOptions {
    let entry = try entry()
    var options: BootOptions = [:]
    for word in Self.words(value(at: entry.append)) {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      if parts[0] == "isolcpus", options["isolcpus"] == nil {
        options["isolcpus"] = .text(parts.count == 2 ? String(parts[1]) : "")
      }
    }
    if let fdt = entry.fdt, !value(at: fdt).isEmpty { options["fdt"] = .text(value(at: fdt)) }
    return options
  }

  private func value(at index: Int) -> String { Self.directive(source.lines[index].text)?.value ?? "" }

  private static func words(_ text: String) -> [Substring] { text.split { $0 == " " || $0 == "\t" } }

  public func setting(_ target: BootOptions) throws(BootError) -> Extlinux {
    let entry = try entry()
    let current = try options()
    guard current != target else { return self }
    var next = self
    if current["isolcpus"] != target["isolcpus"] {
      var words = Self.words(value(at: entry.append)).map(String.init)
      let isManaged = { (word: String) in word == "isolcpus" || word.hasPrefix("isolcpus=") }
      let at = words.firstIndex(where: isManaged) ?? words.count
      words.removeAll(where: isManaged)
      if let value = target["isolcpus"]?.list.first {
        guard !value.contains("=") else {
          throw BootError(
            "One of the values being set contains an invalid character: [ value: \(value), key: isolcpus ]")
        }
        words.insert(value.isEmpty ? "isolcpus" : "isolcpus=\(value)", at: at)
      }
      next.replaceValue(at: entry.append, with: words.joined(separator: " "))
    }
    if current["fdt"] != target["fdt"] {
      let value = target["fdt"]?.list.first ?? ""
      switch (entry.fdt, value.isEmpty) {
      case (let fdt?, false): next.replaceValue(at: fdt, with: value)
      case (let fdt?, true): next.source.lines.remove(at: fdt)
      case (nil, false):
        let indentation = source.lines[entry.append].text.prefix { $0 == " " || $0 == "\t" }
        next.source.insert(["\(indentation)FDT \(value)"], at: entry.append + 1)
      case (nil, true): break
      }
    }
    return next
  }

  private mutating func replaceValue(at index: Int, with value: String) {
    let text = source.lines[index].text
    let indentation = text.prefix { $0 == " " || $0 == "\t" }
    let name = text.dropFirst(indentation.count).prefix { $0.isLetter || $0.isNumber || $0 == "_" }
    let gap = text.dropFirst(indentation.count + name.count).prefix { $0 == " " || $0 == "\t" }
    let blank = gap.isEmpty && !value.isEmpty ? " " : String(gap)
    source.lines[index].text =
      value.isEmpty ? "\(indentation)\(name)" : "\(indentation)\(name)\(blank)\(value)"
  }

  /// What a target becomes when it is written and read again: an empty `fdt` is none.
  static func normalised(_ target: BootOptions) -> BootOptions {
    var options = target.filter { Self.managed.contains($0.key) }
    if options["fdt"]?.list.first?.trimmed.isEmpty ?? false { options["fdt"] = nil }
    return options
  }

  static let managed: Set<String> = ["isolcpus", "fdt"]
}
