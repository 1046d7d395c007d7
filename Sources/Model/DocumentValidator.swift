import JSON

/// The schema of a target state document (target-state 1.2 and 1.3).
///
/// Every reader returns a value even for what is wrong, so that the walk goes on and finds all
/// errors; the values count only when there is none.
nonisolated struct DocumentValidator {
  private(set) var errors: [String] = []

  private static let serviceKeys: Set<String> = [
    "id", "image_id", "image", "environment", "labels", "running", "contract", "composition",
  ]

  /// Where in the document the walk is.
  struct Path {
    var text: String
    static func / (path: Path, key: String) -> Path {
      Path(text: path.text.isEmpty ? key : path.text + "." + key)
    }
  }

  mutating func devices(_ document: JSON, source: String) -> [String: TargetState] {
    var states: [String: TargetState] = [:]
    for (uuid, value) in object(document, at: Path(text: ""), "TargetState") {
      let path = Path(text: "") / uuid
      check(uuid: uuid, at: path)
      states[uuid] = device(object(value, at: path, "DeviceState"), at: path, source: source)
    }
    return states
  }

  private mutating func device(_ members: JSONObject, at path: Path, source: String) -> TargetState {
    var state = TargetState(deviceName: deviceName(members["name"], at: path / "name"))
    state.config = map(members["config"], at: path / "config", DocumentName.configVariable)
    for (uuid, value) in object(members["apps"], at: path / "apps", "TargetApps") {
      let path = path / "apps" / uuid
      check(uuid: uuid, at: path)
      state.apps.append(app(object(value, at: path, "TargetApp"), uuid: uuid, at: path, source: source))
    }
    return state
  }

  mutating func app(
    _ members: JSONObject, uuid: String, at path: Path, source: String
  ) -> TargetApp {
    var app = TargetApp(
      appId: numericId(members["id"], at: path / "id"), uuid: uuid,
      name: shortString(members["name"], at: path / "name"), source: source, release: nil)
    if let value = members["class"], !value.isNull {
      if let known = value.stringValue.flatMap(TargetApp.Class.init(rawValue:)) {
        app.appClass = known
      } else {
        expect("fleet | app | block", at: path / "class", value)
      }
    }
    if let value = members["is_host"] { app.isHost = boolean(value, at: path / "is_host") }
    if let value = members["parent_app"] { _ = shortString(value, at: path / "parent_app", "UUID") }
    for (commit, value) in optionalObject(members["releases"], at: path / "releases", "TargetReleases") {
      let path = path / "releases" / commit
      check(uuid: commit, at: path)
      let release = release(object(value, at: path, "TargetRelease"), commit: commit, at: path)
      if app.release == nil {
        checkDependencies(of: release, at: path / "services")
        app.release = release
      }
    }
    return app
  }

  private mutating func release(_ members: JSONObject, commit: String, at path: Path) -> TargetRelease {
    var release = TargetRelease(commit: commit, id: numericId(members["id"], at: path / "id"))
    for (name, value) in optionalObject(members["services"], at: path / "services", "TargetServices") {
      let path = path / "services" / name
      check(name: name, at: path, DocumentName.docker)
      release.services.append(service(object(value, at: path, "TargetService"), name: name, at: path))
    }
    release.volumes = components(members["volumes"], at: path / "volumes")
    release.networks = components(members["networks"], at: path / "networks")
    return release
  }

  private mutating func components(_ value: JSON?, at path: Path) -> JSONObject {
    let components = optionalObject(value, at: path, "object")
    for (name, value) in components {
      check(name: name, at: path / name, DocumentName.docker)
      switch value {
      case .object, .array: break
      default: expect("object", at: path / name, value)
      }
    }
    return components
  }

  private mutating func service(_ members: JSONObject, name: String, at path: Path) -> TargetService {
    var service = TargetService(
      name: name, serviceId: numericId(members["id"], at: path / "id"),
      imageId: numericId(members["image_id"], at: path / "image_id"),
      image: shortString(members["image"], at: path / "image"))
    service.environment = map(
      members["environment"], at: path / "environment", DocumentName.environmentVariable, hidesValues: true)
    service.labels = map(members["labels"], at: path / "labels", DocumentName.label)
    if let value = members["running"], !value.isNull {
      service.isRunning = boolean(value, at: path / "running")
    }
    if let value = members["contract"] {
      switch value {
      case .object, .array: service.contract = value
      default: expect("object", at: path / "contract", value)
      }
    }
    if let value = members["composition"] {
      service.composition = object(value, at: path / "composition", "object")
    }
    for (key, value) in members where !Self.serviceKeys.contains(key) { service.otherFields[key] = value }
    return service
  }
}

// MARK: - Types

nonisolated extension DocumentValidator {
  /// Longest value shown in an error: a message is for a person.
  private static let longestShown = 200

  mutating func expect(_ type: String, at path: Path, _ value: JSON?, _ reason: String? = nil) {
    reject(type, at: path, shown: value?.serialized() ?? "undefined", reason)
  }

  mutating func reject(_ type: String, at path: Path, shown: String, _ reason: String? = nil) {
    let isLong = shown.utf8.count > Self.longestShown
    let shown = isLong ? shown.prefix(Self.longestShown) + "…" : shown
    let suffix = reason.map { " (\($0))" } ?? ""
    errors.append("Expecting \(type) at \(path.text) but instead got: \(shown)\(suffix)")
  }

  mutating func object(_ value: JSON?, at path: Path, _ type: String) -> JSONObject {
    if let members = value?.objectValue { return members }
    expect(type, at: path, value)
    return [:]
  }

  mutating func optionalObject(_ value: JSON?, at path: Path, _ type: String) -> JSONObject {
    guard let value, !value.isNull else { return [:] }
    return object(value, at: path, type)
  }

  mutating func boolean(_ value: JSON, at path: Path) -> Bool {
    if let flag = value.boolValue { return flag }
    expect("boolean", at: path, value)
    return false
  }

  private mutating func shortString(
    _ value: JSON?, at path: Path, _ type: String = "ShortString"
  ) -> String {
    guard let text = value?.stringValue else {
      expect(type, at: path, value)
      return ""
    }
    if !DocumentName.isShort(text) { expect(type, at: path, value, DocumentName.tooLong) }
    return text
  }

  private mutating func deviceName(_ value: JSON?, at path: Path) -> String {
    let name = shortString(value, at: path, "DeviceName")
    if name.utf8.contains(UInt8(ascii: "\n")) {
      expect("DeviceName", at: path, value, "must not contain newline chars")
    }
    return name
  }

  private mutating func numericId(_ value: JSON?, at path: Path) -> Int {
    if let id = DocumentName.numericId(value) { return id }
    expect("NumericId", at: path, value, "must be be an positive integer")
    return 0
  }

  mutating func check(uuid: String, at path: Path) {
    if !DocumentName.isShort(uuid) { expect("UUID", at: path, .string(uuid), DocumentName.tooLong) }
  }

  private mutating func check(name: String, at path: Path, _ kind: DocumentName) {
    if !DocumentName.isShort(name) {
      expect(kind.type, at: path, .string(name), DocumentName.tooLong)
    } else if !kind.allows(name) {
      expect(kind.type, at: path, .string(name), kind.rule)
    }
  }

  /// - Parameter hidesValues: errors go to logs, where variables have no place; what is a number, a
  ///   boolean or `null` is shown.
  mutating func map(
    _ value: JSON?, at path: Path, _ kind: DocumentName, hidesValues: Bool = false
  ) -> [String: String] {
    var map: [String: String] = [:]
    func shown(_ value: JSON?) -> String {
      switch value {
      case .string, .array, .object: hidesValues ? "hidden" : value?.serialized() ?? ""
      case .null, .bool, .number: value?.serialized() ?? ""
      case nil: "undefined"
      }
    }
    guard let members = value?.objectValue else {
      reject("object", at: path, shown: shown(value))
      return map
    }
    for (name, value) in members {
      check(name: name, at: path / name, kind)
      if let text = value.stringValue {
        map[name] = text
      } else {
        reject("string", at: path / name, shown: shown(value))
      }
    }
    return map
  }
}
