/// Short texts that are kept for long, in one piece of memory.
///
/// Each by itself, they would lie scattered among what was needed only while they were read, and every page
/// that holds one of them would stay in memory.
nonisolated struct PackedTexts: Sendable, Hashable {
  private var bytes: [UInt8] = []
  private var ends: [Int] = []

  init(_ texts: some Collection<String>) {
    bytes.reserveCapacity(texts.reduce(0) { $0 + $1.utf8.count })
    ends.reserveCapacity(texts.count)
    for text in texts {
      bytes.append(contentsOf: text.utf8)
      ends.append(bytes.count)
    }
  }

  subscript(position: Int) -> String {
    String(decoding: bytes[(position == 0 ? 0 : ends[position - 1])..<ends[position]], as: UTF8.self)
  }

  var texts: [String] { ends.indices.map { self[$0] } }
}
