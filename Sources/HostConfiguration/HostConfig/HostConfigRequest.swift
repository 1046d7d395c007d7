public import JSON

/// Body of `PATCH /v1/device/host-config`, checked (host 5.1, http-api 13.1).
public nonisolated struct HostConfigRequest: Sendable, Hashable {
  public enum Hostname: Sendable, Hashable {
    /// Back to the first seven characters of the device's uuid.
    case reset
    case name(String)
  }

  public enum DNS: Sendable, Hashable {
    case none
    case server(address: String, port: String)

    static let standard = DNS.server(address: "8.8.8.8", port: "53")

    /// `address:port`; the last colon separates, so that an IPv6 address is possible.
    init?(_ text: String) {
      guard text.count <= 255, let colon = text.lastIndex(of: ":") else { return nil }
      var address = text[..<colon]
      let port = text[text.index(after: colon)...]
      guard !address.isEmpty, address != ":", !port.isEmpty,
        port.allSatisfy({ $0.isASCII && $0.isNumber }), address.allSatisfy({ !$0.isWhitespace && $0 != ";" })
      else { return nil }
      if address.hasPrefix("["), address.hasSuffix("]"), address.count > 2 {
        address = address.dropFirst().dropLast()
      }
      self = .server(address: String(address), port: String(port))
    }

    var text: String? { if case .server(let address, let port) = self { "\(address):\(port)" } else { nil } }
  }

  public enum Proxy: Sendable, Hashable {
    case remove
    /// What is nil stays as it is; a member that is null is removed.
    case update(members: [Member], dns: DNS?, noProxy: [String]?)
  }

  /// Of the block `redsocks`; nil removes it.
  public struct Member: Sendable, Hashable {
    public var name: String
    public var value: String?

    public init(_ name: String, _ value: String?) {
      self.name = name
      self.value = value
    }
  }

  public var hostname: Hostname?
  public var proxy: Proxy?
  public var force = false
  /// Lines for the log: the body was taken, but is not what the documentation describes.
  public var warnings: [String] = []

  /// The API's answer 400: `Could not parse host config input to a valid format:` and what is wrong.
  public struct InputError: Error, Sendable, Hashable, CustomStringConvertible {
    public let details: String
    public var description: String {
      "Could not parse host config input to a valid format:\n\(details)"
    }
  }

  private static let shape =
    "Partial<{| proxy: ({ [K in string]: any } & Partial<{ dns: (AddressString | boolean) }>), hostname: string |}>"

  public init(parsing body: JSON) throws(InputError) {
    guard let network = body["network"], let members = network.objectValue else {
      throw Self.error(Self.shape, "network", body["network"])
    }
    force = Self.isTruthy(body["force"]) || Self.isTruthy(members["force"])
    if let value = members["hostname"] {
      hostname = try Self.hostname(value)
      if case .name(let name) = hostname, !Self.isHostName(name) {
        warn(["Expecting a host name of RFC 1123 at network.hostname but instead got: \(value.serialized())"])
      }
    }
    if let value = members["proxy"] { try parseProxy(value) }
  }

  private static func error(_ expected: String, _ path: String, _ value: JSON?) -> InputError {
    InputError(
      details: "Expecting \(expected) at \(path) but instead got: \(value?.serialized() ?? "undefined")")
  }

  private static func isTruthy(_ value: JSON?) -> Bool {
    switch value {
    case .bool(let flag): flag
    case .number(let number): number.doubleValue == 1
    case .string(let text): SettingRule.truth(of: text) ?? false
    default: false
    }
  }

  /// `null`, `false` and `""` clear the field they stand in.
  private static func isClearing(_ value: JSON) -> Bool {
    value.isNull || value == .bool(false) || value == .string("")
  }

  private static func hostname(_ value: JSON) throws(InputError) -> Hostname {
    if isClearing(value) { return .reset }
    guard let name = value.stringValue else { throw error("string", "network.hostname", value) }
    guard isLine(name) else { throw error("one line of text", "network.hostname", value) }
    return .name(name)
  }

  /// RFC 1123, 2.1, and no longer than the kernel takes (`HOST_NAME_MAX` of limits.h). Others are taken all the same:
  /// hosts have names with underscores.
  static func isHostName(_ text: String) -> Bool {
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: false
      }
    }
    let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    return text.utf8.count <= 64
      && labels.allSatisfy { label in
        guard let first = label.first, let last = label.last, label.count <= 63 else { return false }
        return isAlphanumeric(first) && isAlphanumeric(last)
          && label.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
      }
  }

  private mutating func warn(_ problems: [String]) {
    guard !problems.isEmpty else { return }
    if warnings.isEmpty {
      warnings.append("Malformed host config detected, things may not behave as expected:")
    }
    warnings += problems
  }

  private static func isLine(_ text: String) -> Bool {
    !text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
  }

  // MARK: Proxy

  private static let types = ["socks4", "socks5", "http-connect", "http-relay"]
  private static let secrets: Set<String> = ["login", "password"]

  private mutating func parseProxy(_ value: JSON) throws(InputError) {
    if Self.isClearing(value) {
      proxy = .remove
      return
    }
    guard let members = value.objectValue else {
      throw Self.error("{ [K in string]: any }", "network.proxy", value)
    }
    if members.isEmpty {
      proxy = .remove
      return
    }
    let dns = try Self.dns(members["dns"])
    let problems = Self.strictProblems(members)
    warn(problems)
    var settings: [Member] = []
    for (name, value) in members where name != "dns" && name != "noProxy" {
      // Both are ours; see `RedsocksFile`.
      if name == "local_ip" || name == "local_port" { continue }
      if problems.isEmpty, !["type", "ip", "port", "login", "password"].contains(name) { continue }
      settings.append(Member(name, try Self.text(of: value, name, isStrict: problems.isEmpty)))
    }
    proxy = .update(members: settings, dns: dns, noProxy: try Self.noProxy(members["noProxy"]))
  }

  private static func dns(_ value: JSON?) throws(InputError) -> DNS? {
    guard let value else { return nil }
    if isClearing(value) { return DNS.none }
    if value == .bool(true) { return .standard }
    if let text = value.stringValue, let dns = DNS(text) { return dns }
    throw InputError(
      details:
        "Expecting one of:\n    AddressString\n    boolean\nat network.proxy.1.dns but instead got: \(value.serialized())"
    )
  }

  private static func noProxy(_ value: JSON?) throws(InputError) -> [String]? {
    guard let value, !value.isNull else { return nil }
    guard let items = value.arrayValue else { return [] }
    var entries: [String] = []
    for (index, item) in items.enumerated() {
      guard let text = item.stringValue, isLine(text) else {
        throw error("string", "network.proxy.noProxy.\(index)", item)
      }
      entries.append(text)
    }
    return entries
  }

  /// What keeps the proxy from the form that the documentation describes; without values of secrets.
  private static func strictProblems(_ members: JSONObject) -> [String] {
    var problems: [String] = []
    func expect(_ holds: Bool, _ type: String, _ name: String) {
      guard !holds else { return }
      let shown = secrets.contains(name) ? "***" : members[name]?.serialized() ?? "undefined"
      problems.append("Expecting \(type) at network.proxy.\(name) but instead got: \(shown)")
    }
    func isAbsentOrString(_ name: String) -> Bool { members[name].map { $0.stringValue != nil } ?? true }
    let isType = members["type"]?.stringValue.map(types.contains) ?? false
    expect(isType, types.map { "\"\($0)\"" }.joined(separator: " | "), "type")
    expect(members["ip"]?.stringValue != nil, "string", "ip")
    expect(members["port"].flatMap(port) != nil, "(number | string)", "port")
    expect(isAbsentOrString("login"), "string", "login")
    expect(isAbsentOrString("password"), "string", "password")
    let isList =
      members["noProxy"].map { $0.arrayValue?.allSatisfy { $0.stringValue != nil } ?? false } ?? true
    expect(isList, "Array<string>", "noProxy")
    return problems
  }

  /// A whole number, not negative, or its text.
  static func port(_ value: JSON) -> Int? {
    let number = value.intValue ?? value.stringValue.flatMap(DeviceVariable.integer)
    return number.flatMap { $0 >= 0 ? $0 : nil }
  }

  /// - Returns: nil for null, which removes the member.
  private static func text(of value: JSON, _ name: String, isStrict: Bool) throws(InputError) -> String? {
    let path = "network.proxy.\(name)"
    guard isName(name) else { throw InputError(details: "Expecting a name of a setting at \(path)") }
    if isStrict, name == "port", let port = port(value) { return String(port) }
    switch value {
    case .null: return nil
    case .string(let text):
      let isWhole = isLine(text) && (secrets.contains(name) || !text.contains(";"))
      guard isWhole else {
        throw error("one line of text", path, secrets.contains(name) ? .string("***") : value)
      }
      return text
    case .number(let number) where !secrets.contains(name): return number.text
    case .bool(let flag) where !secrets.contains(name): return flag ? "true" : "false"
    default: throw error("string", path, secrets.contains(name) ? .string("***") : value)
    }
  }

  private static func isName(_ text: String) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }
}
