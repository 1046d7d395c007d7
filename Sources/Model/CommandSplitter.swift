/// Splits the string form of `command` and `entrypoint` into arguments (target-state 3.4).
///
/// Like a shell's words and operators, but nothing is expanded: the rules begin with a backslash put
/// before every `$`, which bare text and double quotes take away again. In single quotes it stays,
/// as containers that exist already have it (target-state 10, D21).
public nonisolated enum CommandSplitter {
  public static func split(_ text: String) -> [String] {
    var splitter = Splitter(text)
    splitter.run()
    return splitter.arguments
  }

  /// Longest first.
  fileprivate static let operators: [[UInt8]] =
    ["<<<", "||", "&&", ";;", "|&", "<(", ">>", ">&", "<&", "&", ";", "(", ")", "|", "<", ">"].map {
      Array($0.utf8)
    }
}

private nonisolated struct Splitter {
  private let input: [UInt8]
  private var at = 0
  private var word: [UInt8] = []
  private var hasWord = false
  private(set) var arguments: [String] = []
  /// For each position the next `"` that closes, `input.count` where none does; made when first
  /// needed, so that many unmatched quotes cost no more than one.
  private var closingQuotes: [Int] = []

  init(_ text: String) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    for byte in text.utf8 {
      if byte == UInt8(ascii: "$") { bytes.append(UInt8(ascii: "\\")) }
      bytes.append(byte)
    }
    input = bytes
  }

  mutating func run() {
    while at < input.count {
      let byte = input[at]
      switch byte {
      case _ where Self.isBlank(byte):
        endWord()
        at += 1
      case UInt8(ascii: "#"):
        at = input.count
      case UInt8(ascii: "\\"): takeEscaped()
      case UInt8(ascii: "'"): takeSingleQuoted()
      case UInt8(ascii: "\""): takeDoubleQuoted()
      default:
        if let found = CommandSplitter.operators.first(where: { input[at...].starts(with: $0) }) {
          endWord()
          arguments.append(String(decoding: found, as: UTF8.self))
          at += found.count
        } else {
          append(byte)
          at += 1
        }
      }
    }
    endWord()
  }

  private mutating func takeEscaped() {
    at += 1
    guard at < input.count, input[at] != 0x0A, input[at] != 0x0D else { return }
    append(input[at])
    at += 1
  }

  private mutating func takeSingleQuoted() {
    guard let end = input[(at + 1)...].firstIndex(of: UInt8(ascii: "'")) else { return skipUnmatchedQuote() }
    word.append(contentsOf: input[(at + 1)..<end])
    hasWord = true
    at = end + 1
  }

  private mutating func takeDoubleQuoted() {
    let end = closingQuote(from: at + 1)
    guard end < input.count else { return skipUnmatchedQuote() }
    hasWord = true
    at += 1
    while at < end {
      let byte = input[at]
      if byte == UInt8(ascii: "\\"), let next = input[(at + 1)..<end].first,
        next == UInt8(ascii: "\"") || next == UInt8(ascii: "\\") || next == UInt8(ascii: "$")
      {
        word.append(next)
        at += 2
      } else {
        word.append(byte)
        at += 1
      }
    }
    at = end + 1
  }

  private mutating func skipUnmatchedQuote() {
    endWord()
    at += 1
  }

  private mutating func closingQuote(from start: Int) -> Int {
    if closingQuotes.isEmpty {
      closingQuotes = Array(repeating: input.count, count: input.count + 2)
      for position in input.indices.reversed() {
        closingQuotes[position] =
          switch input[position] {
          case UInt8(ascii: "\""): position
          case UInt8(ascii: "\\"): closingQuotes[position + 2]
          default: closingQuotes[position + 1]
          }
      }
    }
    return closingQuotes[start]
  }

  private mutating func append(_ byte: UInt8) {
    word.append(byte)
    hasWord = true
  }

  private mutating func endWord() {
    guard hasWord else { return }
    arguments.append(String(decoding: word, as: UTF8.self))
    word.removeAll(keepingCapacity: true)
    hasWord = false
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}
