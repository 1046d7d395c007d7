import JSON

// Boot configuration (host 4).
//
// Each back end is a file, or a place, that the boot loader or the kernel reads. Its options are
// values by name; variables of the target are mapped to options and back. A back end parses what
// is there, compares, and writes only what differs: lines that it does not manage stay as they
// are, byte for byte. What a target asks for is first brought into the form in which it would be
// read back, so that a target that was written is a target that compares equal, and no device
// reboots for ever.

/// Value of an option.
public nonisolated enum BootValue: Sendable, Hashable {
  case text(String)
  /// Order counts.
  case list([String])

  /// As a variable of the target says it: a list is JSON without its brackets.
  public var variableText: String {
    switch self {
    case .text(let text): text
    case .list(let items): items.map(Self.quoted).joined(separator: ",")
    }
  }

  private static func quoted(_ text: String) -> String { JSON.string(text).serialized() }

  public var list: [String] {
    switch self {
    case .text(let text): [text]
    case .list(let items): items
    }
  }
}

public typealias BootOptions = [String: BootValue]

/// A boot configuration that cannot be read or written; the texts of host 4.
public nonisolated struct BootError: Error, Sendable, Hashable, CustomStringConvertible {
  public let message: String
  public init(_ message: String) { self.message = message }
  public var description: String { message }
}

/// A target as a back end would have it after writing and reading it.
public nonisolated struct BootTarget: Sendable, Hashable {
  public var options: BootOptions
  /// One line for each part of the target that is not applied.
  public var problems: [String] = []

  public init(_ options: BootOptions, problems: [String] = []) {
    self.options = options
    self.problems = problems
  }
}

/// One back end on one device.
public protocol BootBackEnd: AnyObject {
  /// Such as `config.txt`, for the log.
  var name: String { get }
  /// Name of the option that a variable stands for; nil for a variable of others.
  func option(for variable: String) -> String?
  func variable(for option: String) -> String
  /// - Throws: when a value is malformed.
  func decode(_ text: String, option: String) throws(BootError) -> BootValue
  func read() throws(BootError) -> BootOptions
  /// - Parameter current: of `read`.
  func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget
  func needsReboot(from current: BootOptions, to target: BootOptions) -> Bool
  /// Writes all options; nothing when nothing differs.
  func write(_ options: BootOptions) async throws(BootError)
  /// Once after start: what a back end has to do before its options count.
  func prepare() async
}

extension BootBackEnd {
  public func decode(_ text: String, option: String) throws(BootError) -> BootValue { .text(text) }
  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget { BootTarget(target) }
  public func needsReboot(from current: BootOptions, to target: BootOptions) -> Bool { true }
  public func prepare() async {}

  /// Variables of the options.
  public func variables(_ options: BootOptions) -> [String: String] {
    var variables: [String: String] = [:]
    for (option, value) in options { variables[variable(for: option)] = value.variableText }
    return variables
  }

  /// The options that a target's variables ask for, in the form in which they are read back.
  public func target(_ variables: [String: String], current: BootOptions) -> BootTarget {
    var options: BootOptions = [:]
    var problems: [String] = []
    for (variable, text) in variables.sorted(by: { $0.key < $1.key }) {
      guard let option = option(for: variable) else { continue }
      do throws(BootError) { options[option] = try decode(text, option: option) } catch {
        problems.append("Ignoring invalid value of \(variable): \(error)")
        options[option] = current[option]
      }
    }
    var target = normalised(options, current: current)
    target.problems = problems + target.problems
    return target
  }
}

/// Lines of a text with their ends, so that joining them gives the text again.
nonisolated struct TextLines {
  struct Line {
    var text: String
    /// `\n`, `\r\n`, or nothing at the end of a file.
    var end: String
  }

  var lines: [Line] = []

  init(_ text: String) {
    var line = ""
    for scalar in text.unicodeScalars {
      guard scalar == "\n" else {
        line.unicodeScalars.append(scalar)
        continue
      }
      if line.unicodeScalars.last == "\r" {
        line.unicodeScalars.removeLast()
        lines.append(Line(text: line, end: "\r\n"))
      } else {
        lines.append(Line(text: line, end: "\n"))
      }
      line = ""
    }
    if !line.isEmpty { lines.append(Line(text: line, end: "")) }
  }

  var text: String { lines.map { $0.text + $0.end }.joined() }

  /// The end that new lines get.
  var usualEnd: String { lines.first.map { $0.end.isEmpty ? "\n" : $0.end } ?? "\n" }

  mutating func insert(_ texts: [String], at index: Int) {
    guard !texts.isEmpty else { return }
    let end = usualEnd
    if index > 0, lines[index - 1].end.isEmpty { lines[index - 1].end = end }
    lines.insert(contentsOf: texts.map { Line(text: $0, end: end) }, at: index)
  }
}
