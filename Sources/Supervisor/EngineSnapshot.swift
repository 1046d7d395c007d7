import JSON

/// What an engine has at a moment: ids of containers and images, names of volumes, ids of networks.
nonisolated struct EngineSnapshot: Sendable, Hashable {
  var containers: Set<String> = []
  var images: Set<String> = []
  var volumes: Set<String> = []
  var networks: Set<String> = []

  init() {}

  /// What is here and in none of the others.
  func subtracting(_ others: EngineSnapshot...) -> EngineSnapshot {
    var rest = self
    for other in others {
      rest.containers.subtract(other.containers)
      rest.images.subtract(other.images)
      rest.volumes.subtract(other.volumes)
      rest.networks.subtract(other.networks)
    }
    return rest
  }

  var text: String {
    JSON.object([
      "containers": Self.list(containers), "images": Self.list(images), "volumes": Self.list(volumes),
      "networks": Self.list(networks),
    ]).serialized()
  }

  /// nil for a text that is no snapshot: then nothing may be removed.
  init?(parsing text: String) {
    guard let json = try? JSON(parsing: text), let containers = Self.set(json["containers"]),
      let images = Self.set(json["images"]), let volumes = Self.set(json["volumes"]),
      let networks = Self.set(json["networks"])
    else { return nil }
    self.containers = containers
    self.images = images
    self.volumes = volumes
    self.networks = networks
  }

  private static func list(_ names: Set<String>) -> JSON { .array(names.sorted().map(JSON.string)) }

  private static func set(_ json: JSON?) -> Set<String>? {
    guard let rows = json?.arrayValue else { return nil }
    let names = rows.compactMap(\.stringValue)
    return names.count == rows.count ? Set(names) : nil
  }
}
