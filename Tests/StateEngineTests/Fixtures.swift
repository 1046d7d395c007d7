import Database
import Model

@testable import StateEngine

func uuid(_ appId: Int) -> String { String(repeating: "a\(appId % 10)", count: 16) }

/// `registry.test/<name>:1`, or with a digest when the name ends in a `d`.
func imageName(_ name: String) -> String {
  guard name.hasSuffix("d") else { return "registry.test/\(name):1" }
  return "registry.test/\(name)@sha256:" + digest(of: name)
}

/// Names that differ only in what comes before a dash share the digest.
func digest(of name: String) -> String {
  let content = name.split(separator: "-").last ?? ""
  let hex = content.utf8.reduce(into: "") { $0 += String($1, radix: 16) }
  return String((hex + String(repeating: "0", count: 64)).prefix(64))
}

func engineId(_ name: String) -> String { "sha256:" + digest(of: name) }

func engineImage(_ name: String) -> EngineImage {
  let hasDigest = name.hasSuffix("d")
  return EngineImage(
    id: engineId(name), repoTags: ["registry.test/\(name):\(hasDigest ? "latest" : "1")"],
    repoDigests: ["registry.test/\(name)@sha256:\(digest(of: name))"])
}

func network(_ name: String, app appId: Int = 1, version: Int = 0) -> Network {
  var config = NetworkConfig()
  config.labels["version"] = "\(version)"
  return Network(appId: appId, appUuid: uuid(appId), name: name, config: config)
}

func volume(_ name: String, app appId: Int = 1, version: Int = 0) -> Volume {
  var config = VolumeConfig()
  config.labels["version"] = "\(version)"
  return Volume(appId: appId, appUuid: uuid(appId), name: name, config: config)
}

func service(
  _ name: String, app appId: Int = 1, image: String = "one", release: Int = 1, variant: Int = 0,
  strategy: UpdateStrategy? = nil, running: Bool = true, dependsOn: [Dependency] = [],
  networks: [String] = ["default"], volumes: [String] = [], labels: [String: String] = [:]
) -> Service {
  var labels = labels
  labels["io.balena.update.strategy"] = strategy?.rawValue
  var config = ServiceConfig(
    image: imageName(image), isRunning: running, labels: labels, environment: ["VARIANT": "\(variant)"])
  for network in networks { config.networks["\(uuid(appId))_\(network)"] = NetworkEndpoint() }
  config.networkMode = networks.first.map { "\(uuid(appId))_\($0)" } ?? "none"
  config.volumes = volumes.map { .bind("\(appId)_\($0):/\($0)") }
  let index = Int(name.utf8.first ?? 0)
  return Service(
    appId: appId, appUuid: uuid(appId), name: name, serviceId: index, imageId: release * 1000 + index,
    releaseId: release, commit: "commit\(release)", imageName: imageName(image), dependencies: dependsOn,
    config: config)
}

func app(
  _ appId: Int, release: Int = 1, _ services: [Service], networks: [Network]? = nil,
  volumes: [Volume] = []
) -> App {
  App(
    appId: appId, uuid: uuid(appId), name: "app\(appId)", commit: "commit\(release)", services: services,
    networks: networks ?? [network("default", app: appId)], volumes: volumes)
}

/// App 1.
func app(
  release: Int = 1, _ services: [Service], networks: [Network]? = nil, volumes: [Volume] = []
) -> App {
  app(1, release: release, services, networks: networks, volumes: volumes)
}

/// The container that the engine has after a target service was started.
func container(
  of target: Service, status: ServiceStatus = .running, createdAt: Int = 100, id: String? = nil,
  image: String? = nil
) -> Service {
  var service = target
  let minutes = createdAt / 60 % 60
  let seconds = createdAt % 60
  func pad(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
  service.container = Service.Container(
    id: id ?? "\(target.containerName)-\(createdAt)", name: target.containerName,
    createdAt: "2026-01-01T\(pad(createdAt / 3600)):\(pad(minutes)):\(pad(seconds))Z", status: status)
  service.config.image = image.map(engineId) ?? engineId(shortName(target.imageName))
  service.config.isRunning = status == .running || status == .stopping
  service.dependencies = []
  return service
}

/// What `imageName` was made from.
func shortName(_ imageName: String) -> String {
  let rest = imageName.dropFirst("registry.test/".count)
  return String(rest.prefix { $0 != ":" && $0 != "@" })
}

/// With `config.image` as the engine knows it, for images that are present.
func resolved(_ target: [App], _ images: ImageInventory) -> [App] {
  target.map { app in
    var app = app
    app.services = app.services.map { service in
      var service = service
      if let id = images.engineId(ofName: service.imageName) { service.config.image = id }
      return service
    }
    return app
  }
}

/// Rows and engine images for all these services.
func inventory(of services: [Service]) -> ImageInventory {
  var rows: [StoredImage] = []
  var images: [String: EngineImage] = [:]
  for service in services {
    var row = StoredImage(for: service)
    row.id = rows.count + 1
    row.engineId = engineId(shortName(service.imageName))
    rows.append(row)
    let image = engineImage(shortName(service.imageName))
    images[image.id, default: EngineImage(id: image.id)].repoTags += image.repoTags
    images[image.id]?.repoDigests += image.repoDigests
  }
  return ImageInventory(rows: rows, engineImages: Array(images.values))
}

/// An input in which the images of these services are present.
func input(current: [App] = [], target: [App], images services: [Service]? = nil) -> PlannerInput {
  var input = PlannerInput()
  input.current = current
  input.images = inventory(of: services ?? (current + target).flatMap(\.services))
  input.target = resolved(target, input.images)
  return input
}

extension Plan {
  var names: [String] { steps.map(\.step.name) }

  func names(of service: String) -> [String] { steps.filter { $0.service == service }.map(\.step.name) }

  func waits(of service: String) -> [Waiting.Cause] {
    apps.values.flatMap(\.waiting).filter { $0.service == service }.map(\.cause)
  }
}
