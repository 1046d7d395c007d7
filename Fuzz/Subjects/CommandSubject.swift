import Model

nonisolated extension Subject {
  /// A command is split without a loss of bounds; the words together are not longer than the text and the
  /// backslashes put before each `$` (target-state 3.4).
  public static let command = Subject(name: "command") { bytes in
    let text = String(decoding: bytes, as: UTF8.self)
    let words = CommandSplitter.split(text)
    let dollars = text.utf8.count { $0 == UInt8(ascii: "$") }
    precondition(words.reduce(0) { $0 + $1.utf8.count } <= text.utf8.count + dollars, "words grew")
  }
}
