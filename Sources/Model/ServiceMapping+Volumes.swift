import JSON

// Volumes of a service, in every form (target-state 3.7).
nonisolated extension ServiceMapping {
  /// The image's, the composition's, then the agent's own two; the same one may be there twice.
  mutating func mapVolumes() throws(ModelError) -> [VolumeMount] {
    var volumes: [VolumeMount] = (image?.volumes ?? []).map { .anonymous($0) }
    if let value = composition["volumes"] {
      guard let entries = value.arrayValue else {
        throw ModelError(
          "Could not parse volumes: expected a list, got: \(value) (volumes of service \(service.name))")
      }
      for entry in entries {
        if let volume = mapVolume(entry) { volumes.append(volume) }
      }
    }
    let directory = "/tmp/balena-supervisor/services/\(app.appId)/\(service.name)"
    volumes.append(.bind(directory + ":/tmp/resin"))
    volumes.append(.bind(directory + ":/tmp/balena"))
    return volumes
  }

  private mutating func mapVolume(_ entry: JSON) -> VolumeMount? {
    switch entry {
    case .string(let text):
      guard text.contains(":") else { return .anonymous(text) }
      let parts = text.split(separator: ":", omittingEmptySubsequences: false).prefix(3).map(Self.trimmed)
      guard !parts[0].hasPrefix("/") else {
        composition.note("Ignoring invalid bind mount \(text)")
        return nil
      }
      return .bind("\(app.appId)_" + parts.joined(separator: ":"))
    case .object(let long):
      switch LongVolume(long, appId: app.appId) {
      case .mount(let mount):
        noteUnused(long)
        return .mount(mount)
      case .refusedBind: composition.note("Ignoring invalid bind mount \(entry)")
      case .invalid: composition.note("Ignoring invalid compose volume definition \(entry)")
      }
    default: composition.note("Ignoring invalid compose volume definition \(entry)")
    }
    return nil
  }

  private mutating func noteUnused(_ long: JSONObject) {
    composition.noteOthers(
      than: ["type", "source", "target", "readOnly", "bind", "volume", "tmpfs"], in: long, of: "volumes")
    for (key, used) in [("bind", "propagation"), ("volume", "nocopy"), ("tmpfs", "size")] {
      for name in long[key]?.objectValue?.keys ?? [] where name != used {
        composition.note("Ignoring unsupported field \(key).\(name) of volumes")
      }
    }
  }

  static func trimmed(_ text: Substring) -> String {
    func isPlain(_ byte: UInt8?) -> Bool { byte.map { (0x21...0x7E).contains($0) } ?? true }
    if isPlain(text.utf8.first), isPlain(text.utf8.last) { return String(text) }
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}

/// `{type, source, target, …}`, sorted into what can be mounted and what cannot.
private nonisolated enum LongVolume {
  case mount(Mount)
  case refusedBind
  case invalid

  init(_ members: JSONObject, appId: Int) {
    var keys: [String: JSON] = [:]
    for (key, value) in members where !value.isNull { keys[Composition.camelCase(key)] = value }
    func member(_ key: String) -> JSON? { keys[key] }
    guard let type = member("type")?.stringValue, let target = member("target")?.stringValue,
      let options = Options(
        readOnly: member("readOnly"), bind: member("bind"), volume: member("volume"),
        tmpfs: member("tmpfs"))
    else {
      self = .invalid
      return
    }
    var source: String?
    if let value = member("source") {
      guard let text = value.stringValue else {
        self = .invalid
        return
      }
      source = ServiceMapping.trimmed(Substring(text))
    }
    switch (type, source) {
    case ("volume", nil), ("tmpfs", nil): break
    case ("volume", let name?) where !name.hasPrefix("/"): source = "\(appId)_\(name)"
    case ("bind", let path?) where path.hasPrefix("/"):
      self = .refusedBind
      return
    default:
      self = .invalid
      return
    }
    self = .mount(
      Mount(
        type: type, source: source, target: target, isReadOnly: options.isReadOnly,
        propagation: options.propagation, noCopy: options.noCopy, tmpfsSize: options.tmpfsSize))
  }

  private struct Options {
    var isReadOnly = false
    var propagation: String?
    var noCopy = false
    var tmpfsSize: Int?

    /// nil when a member has the wrong type or an object lacks its member.
    init?(readOnly: JSON?, bind: JSON?, volume: JSON?, tmpfs: JSON?) {
      if let readOnly {
        guard let flag = readOnly.boolValue else { return nil }
        isReadOnly = flag
      }
      if let bind {
        guard let text = bind["propagation"]?.stringValue else { return nil }
        propagation = text.isEmpty ? nil : text
      }
      if let volume {
        guard let flag = volume["nocopy"]?.boolValue else { return nil }
        noCopy = flag
      }
      if let tmpfs {
        guard let size = tmpfs["size"]?.intValue else { return nil }
        tmpfsSize = size == 0 ? nil : size
      }
    }
  }
}
