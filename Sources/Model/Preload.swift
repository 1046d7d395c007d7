public import JSON

/// The apps that a device was made with, from the file `apps.json` of its data partition
/// (target-state 8.2), so that it runs them before it has ever reached a cloud.
public nonisolated struct Preload: Sendable, Hashable {
  /// What to run; the device name is empty, `config` is as the file has it.
  public var target: TargetState
  /// The device is to stay on the release of the file.
  public var isPinned: Bool

  public init(target: TargetState, isPinned: Bool = false) {
    self.target = target
    self.isPinned = isPinned
  }

  /// Neither apps nor configuration: what is left of a file once it was taken.
  public var isEmpty: Bool { target.apps.isEmpty && target.config.isEmpty }

  /// `{"app": id, "commit": …}` of the first fleet app, for the setting `pinDevice`; nil when there is
  /// nothing to pin.
  public var pin: JSON? {
    guard isPinned, let app = target.apps.first(where: { $0.appClass == .fleet }), let release = app.release
    else { return nil }
    return ["app": .int(app.appId), "commit": .string(release.commit)]
  }
}

nonisolated extension Preload {
  /// Numeric ids of the apps of a file of the former format, which knows no uuids; none in a file of the
  /// current one.
  public static func formerAppIds(in document: JSON) -> [Int] {
    (document["apps"]?.objectValue ?? [:]).keys.filter { !$0.isEmpty && $0.utf8.allSatisfy(isDigit) }
      .compactMap { DocumentName.numericId(.string($0)) }
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  /// Brings a file of the former format, apps by number, to the current one.
  ///
  /// - Parameter uuids: by app id; an app that is not among them keeps its number for a uuid, as apps
  ///   of local mode do.
  public static func converted(
    former document: JSON, uuids: [Int: String]
  ) throws(TargetStateError) -> JSON {
    var apps = JSONObject()
    for (key, value) in document["apps"]?.objectValue ?? [:] {
      guard !key.isEmpty, key.utf8.allSatisfy(isDigit), let id = DocumentName.numericId(.string(key)) else {
        apps[key] = value
        continue
      }
      do throws(TargetStateError) {
        apps[uuids[id] ?? key] = .object(
          try TargetStateDocument.app(value, key: key, path: "apps." + key))
      } catch {
        // The first line names the document.
        let lines = error.message.split(separator: "\n").dropFirst()
        throw TargetStateError(.invalid, (["Invalid apps.json."] + lines).joined(separator: "\n"))
      }
    }
    var members = document.objectValue ?? [:]
    members["apps"] = .object(apps)
    return .object(members)
  }

  /// Reads a file of the current format.
  ///
  /// - Parameter source: `local`, or the API endpoint, as whose apps they count.
  /// - Throws: `.invalid` with every broken rule, `.failed` when an image has no valid name or the
  ///   file is of the oldest format, an array of single containers.
  public init(parsing document: JSON, source: String) throws(TargetStateError) {
    if case .array = document {
      throw TargetStateError(
        .failed, "Lists of single-container apps are not supported; preload the device again.")
    }
    var validator = DocumentValidator()
    self = validator.preload(document, source: source)
    guard validator.errors.isEmpty else {
      throw TargetStateError(.invalid, (["Invalid apps.json."] + validator.errors).joined(separator: "\n"))
    }
    try target.normalizeImages()
  }
}

nonisolated extension DocumentValidator {
  fileprivate mutating func preload(_ document: JSON, source: String) -> Preload {
    let root = Path(text: "")
    let members = object(document, at: root, "AppsJsonFormat")
    var preload = Preload(target: TargetState(deviceName: ""))
    if let config = members["config"], !config.isNull {
      preload.target.config = map(config, at: root / "config", .configVariable)
    }
    for (uuid, value) in optionalObject(members["apps"], at: root / "apps", "TargetApps") {
      let path = root / "apps" / uuid
      check(uuid: uuid, at: path)
      let app = app(object(value, at: path, "TargetApp"), uuid: uuid, at: path, source: source)
      if app.release == nil {
        expect(
          "TargetReleases", at: path / "releases", value["releases"] ?? [:], "must have at least 1 element")
      }
      preload.target.apps.append(app)
    }
    if let pinned = members["pinDevice"] { preload.isPinned = boolean(pinned, at: root / "pinDevice") }
    return preload
  }
}
