import Glibc
import JSON
import Journal
import Model

/// The body of `POST /v2/journal-logs` (http-api 10, coercions of section 3).
///
/// Where the reference answers 200 with nothing, this refuses and names the option. Beyond the
/// chapter: `priority`, `service`, `cursor` and `grep`.
struct JournalRequest {
  var query = JournalQuery()
  /// Of the answer; the chapter's answers have none.
  var contentType: String?

  struct Refusal: Error {
    let message: String
  }

  private static let priorities = [
    "emerg": 0, "panic": 0, "alert": 1, "crit": 2, "err": 3, "error": 3, "warning": 4, "warn": 4, "notice": 5,
    "info": 6, "debug": 7,
  ]

  /// - Parameters:
  ///   - accept: the request's `Accept`, which may ask for `text/event-stream` in place of `format`.
  ///   - now: microseconds since the epoch.
  init(_ body: JSON, accept: String?, now: UInt64) throws(Refusal) {
    query.showsAll = Coercions.isTruthy(body["all"])
    query.follows = Coercions.isTruthy(body["follow"])
    query.count = Coercions.positiveInteger(body["count"])
    try setFormat(body, accept)
    query.since = try Self.time(body, "since", now)
    query.until = try Self.time(body, "until", now)
    if let since = query.since, let until = query.until, since > until {
      throw Refusal(message: "since must be before until")
    }
    if let unit = try Self.text(body, "unit") {
      switch UnitName.parse(unit) {
      case .name(let name): query.filter.require(units: [name])
      case .glob(let glob): query.unitGlobs = [glob]
      case nil: throw Refusal(message: "unit is empty")
      }
    }
    if let identifier = try Self.text(body, "containerId") {
      query.filter.require("SYSLOG_IDENTIFIER", oneOf: [identifier])
    }
    try setPriority(body)
    query.cursor = try Self.filled(body, "cursor")
    if query.cursor != nil, query.since != nil {
      throw Refusal(message: "cursor and since cannot be given together: both say where to begin")
    }
    query.grep = try Self.filled(body, "grep")
    query.service = try Self.filled(body, "service")
  }

  private mutating func setFormat(_ body: JSON, _ accept: String?) throws(Refusal) {
    guard let name = try Self.text(body, "format") else {
      guard let accept, Self.wantsEvents(accept) else { return }
      query.format = .jsonSSE
      contentType = OutputFormat.eventStreamType
      return
    }
    guard let format = OutputFormat(rawValue: name) else {
      let names = OutputFormat.allCases.map(\.rawValue).joined(separator: ", ")
      throw Refusal(message: "format is '\(name)', not one of \(names)")
    }
    query.format = format
  }

  /// Whether the type is named with a quality above 0 (RFC 9110, 12.5.1).
  private static func wantsEvents(_ accept: String) -> Bool {
    accept.lowercased().split(separator: ",").contains { range in
      let parts = range.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" } }
      guard parts.first == OutputFormat.eventStreamType else { return false }
      let quality = parts.dropFirst().first { $0.hasPrefix("q=") }?.dropFirst(2)
      return quality.map { (Double($0) ?? 1) > 0 } ?? true
    }
  }

  private mutating func setPriority(_ body: JSON) throws(Refusal) {
    guard let text = try Self.text(body, "priority") else { return }
    guard let level = Self.priorities[text.lowercased()] ?? Int(text), (0...7).contains(level) else {
      throw Refusal(
        message: "priority is '\(text)', neither 0 to 7 nor emerg, alert, crit, err, warning, "
          + "notice, info or debug")
    }
    query.priority = level
  }

  private static func time(_ body: JSON, _ option: String, _ now: UInt64) throws(Refusal) -> UInt64? {
    guard let text = try text(body, option) else { return nil }
    guard let time = TimeExpression.parse(text, now: now) else {
      throw Refusal(message: "\(option) is '\(text)', not a time as in systemd.time(7)")
    }
    return time
  }

  private static func filled(_ body: JSON, _ option: String) throws(Refusal) -> String? {
    guard let text = try text(body, option) else { return nil }
    guard !text.isEmpty else { throw Refusal(message: "\(option) is empty") }
    return text
  }

  /// Any value but null as text, lists as their values with commas.
  private static func text(_ body: JSON, _ option: String) throws(Refusal) -> String? {
    guard let value = body[option], let text = text(value) else { return nil }
    guard !text.utf8.contains(0) else { throw Refusal(message: "\(option) contains a zero byte") }
    return text
  }

  private static func text(_ value: JSON) -> String? {
    switch value {
    case .null: nil
    case .array(let values): values.map { text($0) ?? "" }.joined(separator: ",")
    case .object: "[object Object]"
    default: Coercions.scalarText(value)
    }
  }
}
