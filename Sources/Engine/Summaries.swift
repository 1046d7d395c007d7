import JSON

/// A container as `GET /containers/json` lists it.
public nonisolated struct ContainerSummary: Hashable, Sendable {
  public let id: String
  /// Without the leading slash.
  public let names: [String]
  public let labels: [String: String]
  /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
  public let state: String
  /// For people, such as `Up 3 hours`.
  public let status: String
  /// Seconds since 1970.
  public let created: Int
  public let image: String
  public let imageID: String

  init?(_ json: JSON) {
    guard let id = json["Id"]?.stringValue else { return nil }
    self.id = id
    names = strings(json["Names"]).map { $0.hasPrefix("/") ? String($0.dropFirst()) : $0 }
    labels = stringMap(json["Labels"])
    state = json["State"]?.stringValue ?? ""
    status = json["Status"]?.stringValue ?? ""
    created = json["Created"]?.intValue ?? 0
    image = json["Image"]?.stringValue ?? ""
    imageID = json["ImageID"]?.stringValue ?? ""
  }
}

/// An image as `GET /images/json` lists it.
public nonisolated struct ImageSummary: Hashable, Sendable {
  public let id: String
  /// `repo:tag`; the engine's `<none>:<none>` is left out.
  public let repoTags: [String]
  /// `repo@digest`; the engine's `<none>@<none>` is left out.
  public let repoDigests: [String]
  public let labels: [String: String]
  /// In bytes, the layers it shares with others included.
  public let size: Int
  /// Seconds since 1970.
  public let created: Int

  init?(_ json: JSON) {
    guard let id = json["Id"]?.stringValue else { return nil }
    self.id = id
    repoTags = strings(json["RepoTags"]).filter { $0 != "<none>:<none>" }
    repoDigests = strings(json["RepoDigests"]).filter { $0 != "<none>@<none>" }
    labels = stringMap(json["Labels"])
    size = json["Size"]?.intValue ?? 0
    created = json["Created"]?.intValue ?? 0
  }
}

/// A network as `GET /networks` lists it.
public nonisolated struct NetworkSummary: Hashable, Sendable {
  public let id: String
  public let name: String
  public let labels: [String: String]

  init?(_ json: JSON) {
    guard let id = json["Id"]?.stringValue, let name = json["Name"]?.stringValue else { return nil }
    self.id = id
    self.name = name
    labels = stringMap(json["Labels"])
  }
}

/// Which engine answers `GET /version`.
public nonisolated struct VersionInfo: Hashable, Sendable {
  public enum Flavor: Hashable, Sendable { case docker, balena }

  public let version: String
  public let apiVersion: String
  public let minimumAPIVersion: String?
  /// Field `Engine`, which only balenaEngine has.
  public let engine: String?
  /// Names and versions of `Components`.
  public let components: [String: String]
  public let kernelVersion: String?
  public let operatingSystem: String?
  public let architecture: String?

  /// It decides how progress is reported (specification, state-engine 6.5).
  public var flavor: Flavor {
    ["balena-engine", "balena", "balaena"].contains(engine ?? "") ? .balena : .docker
  }

  init?(_ json: JSON) {
    guard let version = json["Version"]?.stringValue, let apiVersion = json["ApiVersion"]?.stringValue else {
      return nil
    }
    self.version = version
    self.apiVersion = apiVersion
    minimumAPIVersion = json["MinAPIVersion"]?.stringValue
    engine = json["Engine"]?.stringValue
    var components: [String: String] = [:]
    for component in json["Components"]?.arrayValue ?? [] {
      guard let name = component["Name"]?.stringValue else { continue }
      components[name] = component["Version"]?.stringValue ?? ""
    }
    self.components = components
    kernelVersion = json["KernelVersion"]?.stringValue
    operatingSystem = json["Os"]?.stringValue
    architecture = json["Arch"]?.stringValue
  }
}

nonisolated func strings(_ json: JSON?) -> [String] { json?.arrayValue?.compactMap(\.stringValue) ?? [] }

nonisolated func stringMap(_ json: JSON?) -> [String: String] {
  var map: [String: String] = [:]
  for (key, value) in json?.objectValue ?? [:] { map[key] = value.stringValue }
  return map
}
