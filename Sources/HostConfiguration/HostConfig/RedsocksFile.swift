import JSON

/// redsocks.conf as host and agent write it (host 5.4, http-api 13.3).
///
/// The agent owns the whole file: three blocks of a fixed form. What it keeps of a file that others
/// wrote are the members of the block `redsocks`, in order, and the name server of `dnsu2t`.
public nonisolated struct RedsocksFile: Sendable, Hashable {
  public typealias Member = HostConfigRequest.Member

  /// Of the block `redsocks`, without `local_ip` and `local_port`.
  public var members: [Member] = []
  public var dns = HostConfigRequest.DNS.none

  public init() {}

  private static let secrets: Set<String> = ["login", "password"]
  private static let localPort = "12345"

  // MARK: Reading

  /// - Parameter warn: takes a line for the log.
  /// - Returns: a file without members when the block `redsocks` is missing or invalid.
  public init(parsing text: String, warn: (String) -> Void = { _ in }) {
    guard !text.allSatisfy(\.isWhitespace), let block = Self.block("redsocks", of: text) else { return }
    let members = Self.members(of: block, warn)
    guard Self.isValid(members) else {
      warn("Invalid redsocks block in redsocks.conf")
      return
    }
    self.members = members
    if let block = Self.block("dnsu2t", of: text) {
      let members = Self.members(of: block, warn)
      let address = members.first { $0.name == "remote_ip" }?.value
      let port = members.first { $0.name == "remote_port" }?.value
      if let address, let port, let dns = HostConfigRequest.DNS("\(address):\(port)") { self.dns = dns }
    }
  }

  /// Members of a file even where its block is not valid: what a partial change is laid over.
  public init(mergingInto text: String) {
    self.init(parsing: text)
    if members.isEmpty, let block = Self.block("redsocks", of: text) {
      members = Self.members(of: block) { _ in }
    }
  }

  /// Content of the block of a label: up to a `}` that a blank or the end follows.
  private static func block(_ label: String, of text: String) -> Substring? {
    var rest = text[...]
    while let found = rest.range(of: label) {
      rest = rest[found.upperBound...]
      var start = rest
      if let first = start.first, first.isWhitespace { start.removeFirst() }
      guard start.first == "{" else { continue }
      start.removeFirst()
      if let end = endOfBlock(start) { return start[..<end] }
    }
    return nil
  }

  /// A brace between quotes, as a password may have one, ends nothing; a quote ends with its line.
  private static func endOfBlock(_ text: Substring) -> Substring.Index? {
    var isQuoted = false
    var isEscaped = false
    for index in text.indices {
      let character = text[index]
      if isEscaped {
        isEscaped = false
        continue
      }
      switch character {
      case "\\": isEscaped = isQuoted
      case "\"": isQuoted.toggle()
      case _ where character.isNewline: isQuoted = false
      case "}" where !isQuoted:
        let after = text.index(after: index)
        if after == text.endIndex || text[after].isWhitespace { return index }
      default: break
      }
    }
    return nil
  }

  private static func members(of block: Substring, _ warn: (String) -> Void) -> [Member] {
    var members: [Member] = []
    for line in block.split(whereSeparator: \.isNewline) {
      var text = line.trimmed
      if text.hasSuffix(";") { text = text.dropLast().trimmed }
      if text.isEmpty { continue }
      let equals = text.firstIndex(of: "=")
      let key = String(equals.map { text[..<$0].trimmed } ?? text)
      let value = equals.map { String(text[text.index(after: $0)...].trimmed) } ?? ""
      guard !key.isEmpty, !value.isEmpty else {
        let shown = secrets.contains(where: text.contains) ? Substring(key) : text
        warn("Ignoring malformed redsocks.conf line \"\(shown)\" due to missing key, value, or \"=\"")
        continue
      }
      if key.contains("local_ip") || key.contains("local_port") { continue }
      let plain = secrets.contains(key) ? unquoted(value) : value
      if let known = members.firstIndex(where: { $0.name == key }) {
        members[known].value = plain
      } else {
        members.append(Member(key, plain))
      }
    }
    return members
  }

  private static func isValid(_ members: [Member]) -> Bool {
    func value(_ name: String) -> String? { members.first { $0.name == name }?.value }
    guard let type = value("type"), ["socks4", "socks5", "http-connect", "http-relay"].contains(type),
      value("ip") != nil, let port = value("port")
    else { return false }
    return HostConfigRequest.port(.string(port)) != nil
  }

  // MARK: Writing

  /// The whole file; nil when there is nothing to proxy to.
  public var text: String? {
    guard !members.isEmpty else { return nil }
    var blocks = [
      Self.block(
        "base",
        ["log_debug = off", "log_info = on", "log = stderr", "daemon = off", "redirector = iptables"]),
      Self.block(
        "redsocks",
        members.compactMap { member in
          member.value.map { "\(member.name) = \(Self.secrets.contains(member.name) ? Self.quoted($0) : $0)" }
        } + ["local_ip = 127.0.0.1", "local_port = \(Self.localPort)"]),
    ]
    if case .server(let address, let port) = dns {
      blocks.append(
        Self.block(
          "dnsu2t",
          ["remote_ip = \(address)", "remote_port = \(port)", "local_ip = 127.0.0.1", "local_port = 53"]))
    }
    return blocks.joined(separator: "\n")
  }

  private static func block(_ label: String, _ lines: [String]) -> String {
    "\(label) {\n\(lines.map { "\t\($0);\n" }.joined())}\n"
  }

  /// Between quotes; quotes and backslashes within are escaped. A value that came with quotes at
  /// both ends keeps them as its own.
  private static func quoted(_ value: String) -> String {
    var inner = value[...]
    if value.count > 1, value.hasPrefix("\""), value.hasSuffix("\"") { inner = inner.dropFirst().dropLast() }
    var text = "\""
    for character in inner {
      if character == "\"" || character == "\\" { text.append("\\") }
      text.append(character)
    }
    return text + "\""
  }

  /// Quotes that are not escaped are no part of the value.
  private static func unquoted(_ value: String) -> String {
    var rest = value[...]
    var text = ""
    while let character = rest.popFirst() {
      if character == "\\", let next = rest.first, next == "\"" || next == "\\" {
        rest.removeFirst()
        // Written without escapes: the last quote is the closing one, whatever stands before it.
        text.append(rest.isEmpty && next == "\"" ? "\\" : next)
      } else if character != "\"" {
        text.append(character)
      }
    }
    return text
  }

  // MARK: Changing

  /// Lays sent members over those of the file: known ones in their place, new ones at the end.
  public func applying(_ sent: [Member], dns: HostConfigRequest.DNS?) -> RedsocksFile {
    var next = self
    for member in sent {
      if let known = next.members.firstIndex(where: { $0.name == member.name }) {
        next.members[known].value = member.value
      } else {
        next.members.append(member)
      }
    }
    next.members.removeAll { $0.value == nil }
    if let dns { next.dns = dns }
    return next
  }

  /// As `GET /v1/device/host-config` shows it.
  var json: JSONObject {
    var object = JSONObject()
    for member in members {
      guard let value = member.value else { continue }
      object[member.name] =
        member.name == "port"
        ? HostConfigRequest.port(.string(value)).map(JSON.int) ?? .string(value)
        : .string(value)
    }
    if let dns = dns.text { object["dns"] = .string(dns) }
    return object
  }
}

nonisolated extension StringProtocol {
  /// Without blanks at both ends.
  var trimmed: SubSequence {
    var rest = self[...]
    while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
    while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
    return rest
  }

  /// The first place where `text` stands.
  func range(of text: String) -> Range<Index>? {
    guard !text.isEmpty else { return nil }
    var start = startIndex
    while start != endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return nil
  }
}
