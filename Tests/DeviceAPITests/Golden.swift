import Glibc
import HTTPClient
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
  /// The user's locks are gone from here on.
  var isUnlocked: Bool { json["unlocked"]?.boolValue ?? false }
  /// Has no answer without an engine.
  var needsEngine: Bool { json["needs"] != nil }
}

extension APIFixture {
  /// Makes the call of a row and compares the answer with it.
  ///
  /// - Parameter variables: what stands in the row as `{{name}}`.
  func check(_ golden: WireCase, variables: [String: String] = [:]) async throws {
    func filled(_ text: String) -> String {
      var rest = text[...]
      var output = ""
      while let start = rest.firstRange(of: "{{"), let end = rest[start.upperBound...].firstRange(of: "}}") {
        let name = String(rest[start.upperBound..<end.lowerBound])
        output += rest[..<start.lowerBound]
        output += variables[name] ?? "{{\(name)}}"
        rest = rest[end.upperBound...]
      }
      return output + rest
    }
    let answer = try await send(
      golden.method, filled(golden.path), headers: golden.headers, body: golden.body.map(filled))
    let name = golden.name
    #expect(answer.status == golden.status, "\(name): \(answer.body)")
    #expect(answer.contentType == golden.type, "\(name)")
    if let body = golden.answer { #expect(answer.body == filled(body), "\(name)") }
    if let pattern = golden.pattern {
      #expect(try Regex(filled(pattern)).wholeMatch(in: answer.body) != nil, "\(name): \(answer.body)")
    }
    for (header, value) in golden.answerHeaders {
      #expect(answer.allHeaders[header] == value, "\(name): \(header)")
    }
  }
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
  static let noEngine = load("no-engine.json").map(WireCase.init)
  static let containers = load("containers.json").map(WireCase.init)
  static let routes = load("routes.json").map(RouteRow.init)
  static let index = load("index.json")

  /// Whether `place` has an answer of a route: a table, by its file, or a test of Tests/Integration.
  ///
  /// - Parameter answer: status and kind of body, such as `200 JSON`; `-` for no content type.
  static func proves(_ place: String, _ route: JSON, _ answer: String) throws -> Bool {
    guard place.hasSuffix(".json") else { return integrationTests.contains("def \(place)(self") }
    let kinds = ["JSON": "application/json", "HTML": "text/html", "PLAIN": "text/plain"]
    let parts = answer.split(separator: " ")
    guard parts.count == 2, let status = Int(parts[0]) else { return false }
    let type = kinds[String(parts[1])].map { "\($0); charset=utf-8" }
    let pattern = (route["path"]?.stringValue ?? "").split(separator: "/").map {
      $0.hasPrefix(":") ? "[^/?]+" : String($0)
    }
    let path = try Regex("/" + pattern.joined(separator: "/") + "(\\?.*)?")
    return try load(place).contains { row in
      guard row["method"] == route["method"] else { return false }
      if place == "routes.json" {
        return row["path"] == route["path"]
          && ["allowed", "allowedInLocalMode", "denied", "live"].contains {
            row[$0]?.arrayValue?.first?.intValue == status
              && row[$0]?.arrayValue?.dropFirst().first?.stringValue == type
          }
      }
      return try path.wholeMatch(in: row["path"]?.stringValue ?? "") != nil
        && row["status"]?.intValue == status
        && row["type"]?.stringValue == type
    }
  }

  private static let integrationTests =
    ["test_api_failures.py", "test_api_wire.py", "test_cloud.py", "test_cloud_local_mode.py"].compactMap {
      text("Tests/Integration/\($0)")
    }
    .joined(separator: "\n")

  private static func load(_ name: String) -> [JSON] {
    guard let text = Self.text("Tests/DeviceAPITests/Golden/\(name)"),
      let list = (try? JSON(parsing: text))?.arrayValue
    else {
      Issue.record("cannot read \(name)")
      return []
    }
    return list
  }

  /// Where a file of the repository is; nil when it is not there.
  static func path(_ name: String) -> String? {
    let root = "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/\(name)"
    return access(path, R_OK) == 0 ? path : nil
  }

  /// The text of a file of the repository.
  static func text(_ path: String) -> String? {
    guard let path = Self.path(path), let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 * 1024)
    while case let count = fread(&piece, 1, piece.count, file), count > 0 { bytes += piece[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }
}
