/// The Raspberry Pi's config.txt (host 4.2; the firmware's documentation of config.txt).
///
/// The managed part is what holds unconditionally: the lines before the first section header, and
/// those below `[all]`. Sections of other conditions, comments, `include` and everything that is not
/// understood stay as they are.
public nonisolated struct ConfigText: Sendable {
  private enum Content: Sendable, Hashable {
    /// Not managed: kept as it is.
    case foreign
    case section(isAll: Bool)
    case entry(key: String, value: String)
  }

  private struct Line: Sendable {
    var text: String
    var end: String
    var content: Content
    var isManaged: Bool

    func isEntry(of keys: Set<String>) -> Bool {
      if case .entry(let key, _) = content { keys.contains(key) } else { false }
    }
  }

  static let listKeys: Set<String> = [
    "dtparam", "dtoverlay", "device_tree_param", "device_tree_overlay", "gpio",
  ]
  /// Parameters of the base device tree, wherever they stand.
  private static let baseParameters: Set<String> = [
    "audio", "spi", "i2c", "i2c_arm", "i2c_vc", "i2c_baudrate", "i2c_arm_baudrate", "i2c_vc_baudrate",
  ]
  private static let treeKeys: Set<String> = ["dtparam", "dtoverlay"]

  private var lines: [Line] = []
  private var usualEnd: String
  /// Lines of the managed part that are not understood.
  public private(set) var unknownLines: [String] = []

  public init(parsing text: String) {
    let source = TextLines(text)
    usualEnd = source.usualEnd
    var isManaged = true
    for line in source.lines {
      let content = Self.content(of: line.text)
      if case .section(let isAll) = content { isManaged = isAll }
      if content == .foreign, isManaged, let first = line.text.trimmed.first, first != "#" {
        unknownLines.append(line.text)
      }
      lines.append(Line(text: line.text, end: line.end, content: content, isManaged: isManaged))
    }
  }

  private static func content(of line: String) -> Content {
    let trimmed = line.trimmed
    if trimmed.isEmpty || trimmed.hasPrefix("#") { return .foreign }
    if trimmed.hasPrefix("["), trimmed.hasSuffix("]") {
      return .section(isAll: trimmed.lowercased() == "[all]")
    }
    if let equals = line.firstIndex(of: "="), equals != line.startIndex {
      return .entry(key: String(line[..<equals]), value: String(line[line.index(after: equals)...]))
    }
    let command = "initramfs "
    if line.hasPrefix(command), line.count > command.count {
      return .entry(key: "initramfs", value: String(line.dropFirst(command.count)))
    }
    return .foreign
  }

  public var text: String { lines.map { $0.text + $0.end }.joined() }

  // MARK: Options

  /// Of the managed part.
  public var options: BootOptions {
    var options: BootOptions = [:]
    var lists: [String: [String]] = [:]
    var tree = DeviceTree()
    for line in lines where line.isManaged {
      guard case .entry(let key, let value) = line.content else { continue }
      switch key {
      case "dtparam": tree.addParameters(value)
      case "dtoverlay": tree.addOverlay(value)
      default:
        if Self.listKeys.contains(key) {
          lists[key, default: []].append(value)
        } else {
          options[key] = .text(value)
        }
      }
    }
    for (key, items) in lists { options[key] = .list(items) }
    if !tree.base.isEmpty { options["dtparam"] = .list(tree.base) }
    if !tree.overlayTexts.isEmpty { options["dtoverlay"] = .list(tree.overlayTexts) }
    return options
  }

  /// Groups of device tree parameters, in the order of the file. Empty ones say nothing, and are not written.
  private struct DeviceTree {
    private var named: [String] = []
    private var groups: [(overlay: String, parameters: [String])] = [("", [])]

    mutating func addParameters(_ text: String) {
      for item in text.split(separator: ",").map(String.init) {
        let name = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)[0]
        if ConfigText.baseParameters.contains(String(name)) {
          named.append(item)
        } else {
          groups[groups.count - 1].parameters.append(item)
        }
      }
    }

    mutating func addOverlay(_ text: String) {
      let items = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      groups.append((items.first ?? "", items.dropFirst().filter { !$0.isEmpty }))
    }

    var base: [String] { named + groups.filter { $0.overlay.isEmpty }.flatMap(\.parameters) }

    var overlayTexts: [String] {
      groups.filter { !$0.overlay.isEmpty }.map { ([$0.overlay] + $0.parameters).joined(separator: ",") }
    }
  }

  // MARK: Changing

  /// The text with these options in its managed part, and no others.
  public func setting(_ target: BootOptions) -> ConfigText {
    let current = options
    guard current != target else { return self }
    var next = self
    var fresh: [String] = []
    for key in target.keys.sorted() where !Self.treeKeys.contains(key) && current[key] != target[key] {
      guard let value = target[key] else { continue }
      if current[key] == nil {
        fresh += Self.texts(key, value)
      } else {
        next.replace(key, value)
      }
    }
    for key in current.keys where target[key] == nil && !Self.treeKeys.contains(key) { next.remove([key]) }

    if Self.treeKeys.contains(where: { current[$0] != target[$0] }) {
      let at = next.remove(Self.treeKeys)
      let base = (target["dtparam"]?.list ?? []).filter { $0.contains { $0 != "," } }.map { "dtparam=\($0)" }
      let overlays = (target["dtoverlay"]?.list ?? []).flatMap(Self.overlayTexts)
      if let at {
        next.insert(base + overlays, at: at)
        next.insert(fresh, at: next.managedEnd)
      } else {
        next.insert(base + fresh + overlays, at: next.managedEnd)
      }
    } else {
      next.insert(fresh, at: next.managedEnd)
    }
    return ConfigText(parsing: next.text)
  }

  private static func texts(_ key: String, _ value: BootValue) -> [String] {
    if key == "initramfs" { return value.list.map { "initramfs \($0)" } }
    return value.list.map { "\(key)=\($0)" }
  }

  /// Parameters get a line each, which keeps lines below the firmware's limit. One that is named like a
  /// parameter of the base stays on the overlay's own line, with what stands before it: on a line
  /// of its own it would be the base's.
  private static func overlayTexts(_ text: String) -> [String] {
    let items = text.split(separator: ",", omittingEmptySubsequences: true).map(String.init)
    guard let name = items.first else { return [] }
    let parameters = Array(items.dropFirst())
    let inline =
      parameters.lastIndex { item in
        baseParameters.contains(String(item.split(separator: "=", maxSplits: 1).first ?? ""))
      }.map { $0 + 1 } ?? 0
    return [(["dtoverlay=\(name)"] + parameters[..<inline]).joined(separator: ",")]
      + parameters[inline...].map { "dtparam=\($0)" }
  }

  private mutating func replace(_ key: String, _ value: BootValue) {
    guard case .text = value, let last = lines.lastIndex(where: { $0.isManaged && $0.isEntry(of: [key]) })
    else {
      guard let at = remove([key]) else { return }
      return insert(Self.texts(key, value), at: at)
    }
    lines[last].text = Self.texts(key, value)[0]
  }

  /// - Returns: where the first of the lines was.
  @discardableResult
  private mutating func remove(_ keys: Set<String>) -> Int? {
    let first = lines.firstIndex { $0.isManaged && $0.isEntry(of: keys) }
    lines.removeAll { $0.isManaged && $0.isEntry(of: keys) }
    return first
  }

  /// Behind the last line with content before the first section.
  private var managedEnd: Int {
    let end = lines.firstIndex { if case .section = $0.content { true } else { false } } ?? lines.count
    return (lines[..<end].lastIndex { !$0.text.trimmed.isEmpty }).map { $0 + 1 } ?? 0
  }

  private mutating func insert(_ texts: [String], at index: Int) {
    guard !texts.isEmpty else { return }
    if index > 0, lines[index - 1].end.isEmpty { lines[index - 1].end = usualEnd }
    lines.insert(
      contentsOf: texts.map { Line(text: $0, end: usualEnd, content: Self.content(of: $0), isManaged: true) },
      at: index)
  }

  /// What a target becomes when it is written and read again.
  static func normalised(_ target: BootOptions) -> BootOptions {
    ConfigText(parsing: "").setting(target).options
  }
}
