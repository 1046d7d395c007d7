import Database
import Model

// What the agent says about its services, to the cloud and to the local API, derived from
// three lists: images with what happens to them, containers, and target apps (state-engine 8).

/// One service of one release as it is reported.
public nonisolated struct ServiceReport: Sendable, Hashable {
  public var appId: Int
  public var appUuid: String?
  public var service: String
  public var commit: String?
  public var imageName: String
  public var imageId: Int
  public var releaseId: Int
  /// One of the texts of state-engine 7.4.
  public var status: String
  /// Percent of a running download.
  public var progress: Int?
  public var createdAt: Timestamp?
}

/// How far an app is with a release (state-engine 8.4).
public nonisolated enum UpdateStatus: String, Sendable {
  case rejected
  case aborted
  case downloading
  case downloaded
  case applyingChanges = "applying changes"
  case done

  /// The first that holds for any of the services.
  public init(of services: [ServiceReport]) {
    if services.contains(where: { $0.status == "Aborted" }) {
      self = .aborted
    } else if services.contains(where: { $0.progress.map { $0 != 100 } ?? false }) {
      self = .downloading
    } else if services.contains(where: { $0.status == ImageReport.Status.downloaded.rawValue }) {
      self = .downloaded
    } else if services.contains(where: {
      ["installing", "installed", "awaiting handover"].contains($0.status.lowercased())
    }) {
      self = .applyingChanges
    } else {
      self = .done
    }
  }
}

public nonisolated struct StatusReport: Sendable {
  public let images: [ImageReport]
  public let containers: [Service]
  public let targets: [TargetOutline]
  /// Every service of every release that has an image on the device or is to have one.
  /// A container without an image of ours is not reported.
  public let services: [ServiceReport]

  public init(images: [ImageReport], containers: [Service], targets: [TargetOutline]) {
    self.images = images
    self.containers = containers
    self.targets = targets
    services = StatusReport.join(images, containers, targets)
  }

  // MARK: - The service list (8.2, 8.3)

  private struct Key: Hashable {
    let appId: Int
    let service: String
    let commit: String?
  }

  private static func join(
    _ images: [ImageReport], _ containers: [Service], _ targets: [TargetOutline]
  ) -> [ServiceReport] {
    var entries: [ServiceReport] = []
    var positions: [Key: Int] = [:]
    func add(_ entry: ServiceReport) {
      let key = Key(appId: entry.appId, service: entry.service, commit: entry.commit)
      guard positions[key] == nil else { return }
      positions[key] = entries.count
      entries.append(entry)
    }
    let commits = Dictionary(targets.map { ($0.appId, $0.commit) }) { first, _ in first }
    let inUse = Set(containers.map { Key(appId: $0.appId, service: $0.name, commit: $0.commit) })
    for report in images {
      let image = report.image
      guard let appId = image.appId, let service = image.serviceName else { continue }
      // The image of a former release that nothing runs any more is not on its way to anything.
      if report.status == .downloaded, let commit = commits[appId], commit != image.commit,
        !inUse.contains(Key(appId: appId, service: service, commit: image.commit))
      {
        continue
      }
      add(
        ServiceReport(
          appId: appId, appUuid: image.appUuid, service: service, commit: image.commit,
          imageName: image.name, imageId: image.imageId ?? 0, releaseId: image.releaseId ?? 0,
          status: report.status.rawValue, progress: report.progress))
    }
    for app in targets where !app.isRejected {
      for service in app.services {
        let isAgent = AgentApp.includes(appUuid: app.uuid, service: service.name)
        add(
          ServiceReport(
            appId: app.appId, appUuid: app.uuid, service: service.name, commit: app.commit,
            imageName: service.imageName, imageId: service.imageId, releaseId: service.releaseId,
            status: isAgent ? "Running" : "Downloading", progress: isAgent ? nil : 0))
      }
    }
    for service in containers {
      guard let container = service.container,
        let position = positions[Key(appId: service.appId, service: service.name, commit: service.commit)]
      else { continue }
      // Of two containers of one release the newer one counts.
      if let known = entries[position].createdAt, known > service.createdAt { continue }
      entries[position].status = container.status.text
      entries[position].createdAt = service.createdAt
    }
    markHandovers(&entries)
    return entries
  }

  /// Running containers of one service in several releases: the oldest hands over to the others.
  private static func markHandovers(_ entries: inout [ServiceReport]) {
    let running = entries.indices.filter { entries[$0].status == "Running" && entries[$0].createdAt != nil }
    let groups = Dictionary(grouping: running) {
      Key(appId: entries[$0].appId, service: entries[$0].service, commit: nil)
    }
    for group in groups.values where group.count > 1 {
      let byAge = group.sorted {
        (entries[$0].createdAt ?? Timestamp(seconds: 0)) < (entries[$1].createdAt ?? Timestamp(seconds: 0))
      }
      for index in byAge { entries[index].status = "Awaiting handover" }
      if let oldest = byAge.first { entries[oldest].status = "Handing over" }
    }
  }

  // MARK: - Releases

  public func services(appId: Int, commit: String?) -> [ServiceReport] {
    services.filter { $0.appId == appId && $0.commit == commit }
  }

  /// A rejected app says so for all its releases.
  public func updateStatus(appId: Int, commit: String?) -> UpdateStatus {
    if targets.contains(where: { $0.appId == appId && $0.isRejected }) { return .rejected }
    return UpdateStatus(of: services(appId: appId, commit: commit))
  }
}
