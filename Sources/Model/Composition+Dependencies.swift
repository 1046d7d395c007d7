import JSON

// What ties a service to others: `depends_on` in its short and its long form, and `network_mode`
// (target-state 3.6 and 3.11).
nonisolated extension Composition {
  /// What `network_mode` says of whose network the container has.
  enum NetworkMode {
    case unset
    /// `host`, `bridge` or `none`.
    case plain(String)
    case service(String)
    /// Not supported: it would outlive the container that it names.
    case container
    case network(String)
  }

  mutating func networkMode() -> NetworkMode {
    guard let text = text("networkMode"), !text.isEmpty else { return .unset }
    if ["host", "bridge", "none"].contains(text) { return .plain(text) }
    if let name = Self.text(after: "service:", in: text), !name.isEmpty { return .service(name) }
    if Self.text(after: "container:", in: text) != nil {
      note("A network_mode referencing a container is not supported. Ignoring.")
      return .container
    }
    return .network(text)
  }

  private static func text(after prefix: String, in text: String) -> String? {
    let wanted = Array(prefix.utf8)
    var rest = Array(text.utf8)[...]
    while rest.count >= wanted.count {
      if rest.starts(with: wanted) {
        let name = rest.dropFirst(wanted.count).drop { $0 == 0x20 || $0 == 0x09 }
        return String(decoding: name, as: UTF8.self)
      }
      rest = rest.dropFirst()
    }
    return nil
  }

  /// A list of names, one name, or a map from names to `{condition, required, restart}`; the first
  /// of equal names counts.
  mutating func dependencies() -> [Dependency] {
    guard case .object(let long) = self["dependsOn"] else {
      var seen: Set<String> = []
      return (textOrList("dependsOn") ?? []).filter { seen.insert($0).inserted }.map { Dependency($0) }
    }
    return long.map { name, value in
      let key = "dependsOn.\(name)"
      guard !value.isNull else { return Dependency(name) }
      guard let members = value.objectValue else {
        noteInvalid(key, value)
        return Dependency(name)
      }
      var dependency = Dependency(name)
      for (member, value) in members where !value.isNull {
        switch (member, value) {
        case ("condition", .string(let text)):
          guard let condition = Dependency.Condition(rawValue: text) else { fallthrough }
          dependency.condition = condition
        case ("condition", _), ("required", .string), ("required", .number), ("required", .array),
          ("required", .object):
          noteInvalid("\(key).\(member)", value)
        case ("required", _): dependency.isRequired = value.boolValue ?? true
        // Services are never restarted for another's sake, which is what `false` asks for.
        case ("restart", false): break
        default: note("Ignoring unsupported field \(member) of \(key)")
        }
      }
      return dependency
    }
  }
}

nonisolated extension TargetApp {
  /// Whether a service of the release runs on the host's network.
  public var usesHostNetwork: Bool {
    (release?.services ?? []).contains { service in
      var composition = Composition(service.composition, serviceName: service.name)
      if case .plain("host") = composition.networkMode() { return true }
      return false
    }
  }
}
