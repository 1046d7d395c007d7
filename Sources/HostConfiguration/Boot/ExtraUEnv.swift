/// extra_uEnv.txt of devices with U-Boot (host 4.4).
///
/// `fdt` is the line `custom_fdt_file`, `isolcpus` a word of `extra_os_cmdline`, a line that belongs
/// to the agent as a whole once it is changed. All other lines and comments stay.
public nonisolated struct ExtraUEnv: Sendable {
  private static let fdtName = "custom_fdt_file"
  private static let commandLineName = "extra_os_cmdline"

  private var source: TextLines

  public init(parsing text: String) { source = TextLines(text) }

  public var text: String { source.text }

  private static func entry(_ line: String) -> (name: String, value: String)? {
    let text = line.drop { $0 == " " || $0 == "\t" }
    let name = text.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
    guard !name.isEmpty, text.dropFirst(name.count).first == "=" else { return nil }
    return (String(name), String(text.dropFirst(name.count + 1)))
  }

  /// Lines that are neither entries nor comments.
  public var unknownLines: [String] {
    source.lines.map(\.text).filter { line in
      guard let first = line.trimmed.first, first != "#" else { return false }
      return Self.entry(line) == nil
    }
  }

  public var options: BootOptions {
    var options: BootOptions = [:]
    for line in source.lines {
      guard let (name, value) = Self.entry(line.text) else { continue }
      if name == Self.fdtName, options["fdt"] == nil { options["fdt"] = .text(value) }
      guard name == Self.commandLineName else { continue }
      for word in value.split(whereSeparator: \.isWhitespace) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if parts[0] == "isolcpus", options["isolcpus"] == nil {
          options["isolcpus"] = .text(parts.count == 2 ? String(parts[1]) : "")
        }
      }
    }
    return options
  }

  public func setting(_ target: BootOptions) -> ExtraUEnv {
    let current = options
    var next = self
    if current["fdt"] != target["fdt"] { next.set(Self.fdtName, target["fdt"]?.list.first) }
    if current["isolcpus"] != target["isolcpus"] {
      let word = target["isolcpus"]?.list.first.map { $0.isEmpty ? "isolcpus" : "isolcpus=\($0)" }
      next.set(Self.commandLineName, word)
    }
    return next
  }

  /// Replaces the first line of the name and drops the others; appends, or removes for nil.
  private mutating func set(_ name: String, _ value: String?) {
    let places = source.lines.indices.filter { Self.entry(source.lines[$0].text)?.name == name }
    for index in places.dropFirst().reversed() { source.lines.remove(at: index) }
    switch (places.first, value) {
    case (let index?, let value?): source.lines[index].text = "\(name)=\(value)"
    case (let index?, nil): source.lines.remove(at: index)
    case (nil, let value?): source.insert(["\(name)=\(value)"], at: source.lines.count)
    case (nil, nil): break
    }
    if let last = source.lines.indices.last, source.lines[last].end.isEmpty {
      source.lines[last].end = source.usualEnd
    }
  }
}
