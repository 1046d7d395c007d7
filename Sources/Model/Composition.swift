import JSON

/// A service's composition: keys in one spelling, values read leniently, and a note for whatever
/// is not used (target-state 3.2).
nonisolated struct Composition {
  private let serviceName: String
  private var members: [String: JSON] = [:]
  /// One line for each thing that was passed over, naming service and key.
  private(set) var notes: [String] = []

  static let supportedKeys: Set<String> = [
    "capAdd", "capDrop", "cgroupParent", "command", "entrypoint", "cpus", "cpuShares", "cpuQuota", "cpuset",
    "devices", "dns", "dnsSearch", "dnsOpt", "domainname", "environment", "extraHosts", "groupAdd",
    "healthcheck", "hostname", "init", "ipc", "labels", "macAddress", "memLimit", "memReservation", "shmSize",
    "networkMode", "networks", "oomKillDisable", "oomScoreAdj", "pid", "pidsLimit", "ports", "privileged",
    "readOnly", "restart", "running", "securityOpt", "stopGracePeriod", "stopSignal", "sysctls", "tmpfs",
    "tty",
    "ulimits", "user", "usernsMode", "volumes", "workingDir", "dependsOn", "image",
  ]

  init(_ composition: JSONObject, serviceName: String) {
    self.serviceName = serviceName
    var unsupported: [String] = []
    for (key, value) in composition where !value.isNull {
      let name = Self.camelCase(key)
      if Self.supportedKeys.contains(name) {
        members[name] = value
      } else {
        unsupported.append(name)
      }
    }
    if !unsupported.isEmpty {
      note("Ignoring unsupported or unknown compose fields: \(unsupported.joined(separator: ", "))")
    }
  }

  subscript(key: String) -> JSON? { members[key] }

  mutating func note(_ text: String) { notes.append("\(text) (service \(serviceName))") }

  /// Values of variables are no matter for a log.
  mutating func noteInvalid(_ key: String, _ value: JSON) {
    let shown = key.hasPrefix("environment") ? "hidden" : value.description
    note("Ignoring invalid value of \(key): \(shown)")
  }

  /// Notes the members of an object that are not used.
  mutating func noteOthers(than used: [String], in members: JSONObject, of key: String) {
    for (name, value) in members where !value.isNull && !used.contains(Self.camelCase(name)) {
      note("Ignoring unsupported field \(Self.camelCase(name)) of \(key)")
    }
  }

  /// A string; numbers and booleans as text.
  mutating func text(_ key: String) -> String? {
    guard let value = members[key] else { return nil }
    if let text = Coercions.scalarText(value) { return text }
    noteInvalid(key, value)
    return nil
  }

  /// A list of strings; numbers and booleans as text.
  mutating func list(_ key: String) -> [String]? {
    guard let value = members[key] else { return nil }
    guard let values = value.arrayValue else {
      noteInvalid(key, value)
      return nil
    }
    return values.compactMap { element in
      if let text = Coercions.scalarText(element) { return text }
      noteInvalid(key, element)
      return nil
    }
  }

  /// A list, or one string for a list of one.
  mutating func textOrList(_ key: String) -> [String]? {
    if case .array = members[key] { return list(key) }
    return text(key).map { [$0] }
  }

  /// A map of strings, or a list of `name=value`; `null` is the empty string.
  mutating func map(_ key: String) -> [String: String] {
    switch members[key] {
    case nil: return [:]
    case .object(let object):
      var map: [String: String] = [:]
      for (name, value) in object {
        if value.isNull {
          map[name] = ""
        } else if let text = Coercions.scalarText(value) {
          map[name] = text
        } else {
          noteInvalid("\(key).\(name)", value)
        }
      }
      return map
    case .array:
      var map: [String: String] = [:]
      for entry in list(key) ?? [] {
        if let equals = entry.firstIndex(of: "=") {
          map[String(entry[..<equals])] = String(entry[equals...].dropFirst())
        } else {
          noteInvalid(key, .string(entry))
        }
      }
      return map
    case let value?:
      noteInvalid(key, value)
      return [:]
    }
  }

  mutating func boolean(_ key: String) -> Bool? {
    guard let value = members[key] else { return nil }
    if let flag = value.boolValue { return flag }
    noteInvalid(key, value)
    return nil
  }

  /// An integer by the loose rule INT.
  mutating func integer(_ key: String) -> Int? {
    guard let value = members[key] else { return nil }
    if let number = Coercions.integer(value) { return number }
    noteInvalid(key, value)
    return nil
  }

  /// Whether the value is anything but `false`, 0 or empty.
  func isSet(_ key: String) -> Bool? { members[key].map { Coercions.isSet($0) } }

  mutating func memory(_ key: String) -> Int? {
    guard let value = members[key] else { return nil }
    if let bytes = Quantities.memory(value) { return bytes }
    noteInvalid(key, value)
    return nil
  }

  /// `mem_limit`, `mem-limit`, `memLimit` and `Mem Limit` are one key. Letters are those of ASCII;
  /// other characters pass as they are.
  static func camelCase(_ key: String) -> String {
    if key.utf8.allSatisfy({ (0x61...0x7A).contains($0) }) { return key }
    let bytes = Array(key.utf8)
    func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) || byte >= 0x80 }
    func isUpper(_ byte: UInt8) -> Bool { (0x41...0x5A).contains(byte) }
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var startsWord = false
    var previous: UInt8?
    for (position, byte) in bytes.enumerated() {
      guard isLower(byte) || isUpper(byte) || isDigit(byte) else {
        startsWord = true
        previous = nil
        continue
      }
      if let previous {
        let isBeforeLower = position + 1 < bytes.count && isLower(bytes[position + 1])
        if isUpper(byte), !isUpper(previous) || isBeforeLower { startsWord = true }
        if !isDigit(byte), isDigit(previous) { startsWord = true }
      }
      let isCapital = startsWord && !result.isEmpty
      if isCapital, byte < 0x80, isLower(byte) {
        result.append(byte & ~0x20)
      } else {
        result.append(!isCapital && isUpper(byte) ? byte | 0x20 : byte)
      }
      startsWord = false
      previous = byte
    }
    return String(decoding: result, as: UTF8.self)
  }
}
