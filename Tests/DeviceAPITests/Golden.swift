import Glibc
import JSON
import Testing

/// A request of `Golden/wire.json` and the answer that it must have, to the byte.
struct WireCase {
  let json: JSON

  var name: String { json["name"]?.stringValue ?? "" }
  var method: String { json["method"]?.stringValue ?? "" }
  var path: String { json["path"]?.stringValue ?? "" }
  var body: String? { json["body"]?.stringValue }
  var headers: [(name: String, value: String)] {
    (json["headers"]?.objectValue ?? [:]).map { ($0.key, $0.value.stringValue ?? "") }
  }
  var status: Int { json["status"]?.intValue ?? 0 }
  /// nil for an answer without content type.
  var type: String? { json["type"]?.stringValue }
  var answer: String? { json["answer"]?.stringValue }
  var pattern: String? { json["pattern"]?.stringValue }
  var answerHeaders: [(name: String, value: String)] {
    (json["answerHeaders"]?.objectValue ?? [:]).map { ($0.key, $0.value.stringValue ?? "") }
  }
  /// Has no answer without an engine.
  var needsEngine: Bool { json["needs"] != nil }
}

/// A row of `Golden/routes.json`: a route of the index, a call of it, and what callers get.
struct RouteRow {
  let json: JSON

  struct Expected {
    var status: Int
    var type: String?
    var body: String?
  }

  var method: String { json["method"]?.stringValue ?? "" }
  var path: String { json["path"]?.stringValue ?? "" }
  var scope: String { json["scope"]?.stringValue ?? "" }
  var readsBody: Bool { json["readsBody"]?.boolValue ?? true }
  var isOutsideIndex: Bool { json["outsideIndex"]?.boolValue ?? false }
  var call: String { json["call"]?.stringValue ?? path }
  var callMethod: String { json["callMethod"]?.stringValue ?? method }
  var body: String? { json["body"]?.stringValue }
  /// nil when the answer depends on more than the caller.
  var allowed: Expected? { expected("allowed") }
  var allowedInLocalMode: Expected? { expected("allowedInLocalMode") ?? allowed }
  /// To a key of another app; nil when that makes no difference.
  var denied: Expected? { expected("denied") }

  private func expected(_ name: String) -> Expected? {
    guard let list = json[name]?.arrayValue, list.count == 3 else { return nil }
    return Expected(
      status: list[0].intValue ?? 0, type: list[1].stringValue, body: list[2].stringValue)
  }
}

enum Golden {
  static let wire = load("wire.json").map(WireCase.init)
  static let routes = load("routes.json").map(RouteRow.init)

  private static func load(_ name: String) -> [JSON] {
    guard let text = Self.text("Tests/DeviceAPITests/Golden/\(name)"),
      let list = (try? JSON(parsing: text))?.arrayValue
    else {
      Issue.record("cannot read \(name)")
      return []
    }
    return list
  }

  /// A file of the repository.
  static func text(_ path: String) -> String? {
    let root = "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
    guard let file = fopen("/\(root)/\(path)", "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 * 1024)
    while case let count = fread(&piece, 1, piece.count, file), count > 0 { bytes += piece[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }
}
