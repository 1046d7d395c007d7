/// Names from before the product's present name (target-state 4.2).
nonisolated enum LegacyLabels {
  private static let prefix = "io.resin."

  /// Every label whose name starts with `io.resin.` under its present name; a label that has the
  /// present name already wins.
  static func mapped(_ labels: [String: String]) -> [String: String] {
    guard labels.keys.contains(where: { $0.hasPrefix(prefix) }) else { return labels }
    var result: [String: String] = [:]
    for (name, value) in labels where !name.hasPrefix(prefix) { result[name] = value }
    for (name, value) in labels.sorted(by: { $0.key < $1.key }) where name.hasPrefix(prefix) {
      let present = presentName(name)
      if result[present] == nil { result[present] = value }
    }
    return result
  }

  private static func presentName(_ name: String) -> String {
    let old = Array("resin".utf8)
    var rest = Array(name.utf8)[...]
    var output: [UInt8] = []
    while let first = rest.first {
      if rest.starts(with: old) {
        output.append(contentsOf: "balena".utf8)
        rest = rest.dropFirst(old.count)
      } else {
        output.append(first)
        rest = rest.dropFirst()
      }
    }
    return String(decoding: output, as: UTF8.self)
  }
}
