import Foundation

/// Lines `Name:  number unit` of a file of /proc.
nonisolated func procFields(_ path: String) throws -> [String: Int] {
  var fields: [String: Int] = [:]
  for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n") {
    let words = line.split { $0 == ":" || $0 == " " || $0 == "\t" }
    if words.count > 1, let number = Int(words[1]) { fields[String(words[0])] = number }
  }
  return fields
}
