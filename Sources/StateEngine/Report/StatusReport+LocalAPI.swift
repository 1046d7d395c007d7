import Database
import Model

// Views of the report for the endpoints of the local API, as values; the API gives them their
// JSON shapes. `covers` says which apps the caller may see.

/// A row of `GET /v2/applications/state` (http-api 5.3).
public nonisolated struct ApplicationState: Sendable, Hashable {
  public var name: String
  public var appId: Int
  public var appUuid: String?
  public var commit: String?
  public var updateStatus: UpdateStatus
  /// Of the target commit only; none for a rejected app.
  public var services: [ServiceReport]
}

/// `GET /v2/applications/:appId/state` (http-api 5.4).
public nonisolated struct ApplicationDetail: Sendable, Hashable {
  public struct Entry: Sendable, Hashable {
    public var imageId: Int
    public var status: String
    public var releaseId: Int
    public var progress: Int?
  }

  public var appId: Int
  /// nil when none was stored yet.
  public var commit: String?
  /// One for each image id; containers first.
  public var services: [Entry]
}

/// `GET /v2/state/status` (http-api 5.5), without `appState`.
public nonisolated struct StateStatus: Sendable, Hashable {
  /// Percent, over all apps that the caller may see.
  public var overallDownloadProgress: Double?
  /// Of one app: that of the first container, else of the first image.
  public var containers: [Service]
  public var images: [ImageReport]
  public var release: String?
}

/// The part of `GET /v1/device` that is about one service (http-api 4.8).
public nonisolated struct DeviceSummary: Sendable, Hashable {
  public var appId: Int
  public var commit: String?
  /// nil when the app has no service; a running service reads `Idle`.
  public var status: String?
  public var progress: Int?
}

nonisolated extension StatusReport {
  public func applicationStates(covers: (Int) -> Bool) -> [ApplicationState] {
    targets.filter { covers($0.appId) }.map { app in
      ApplicationState(
        name: app.name, appId: app.appId, appUuid: app.uuid, commit: app.commit,
        updateStatus: updateStatus(appId: app.appId, commit: app.commit),
        services: app.isRejected || app.commit == nil ? [] : services(appId: app.appId, commit: app.commit))
    }
  }

  /// - Parameter commits: stored commits by app id.
  public func applicationDetail(appId: Int, commits: [Int: String]) -> ApplicationDetail {
    ApplicationDetail(appId: appId, commit: commits[appId], services: entries(appId: appId))
  }

  /// Containers, and images without a container, by image id. Two containers of one image id
  /// are a hand-over, shown with the older one's release.
  private func entries(appId: Int) -> [ApplicationDetail.Entry] {
    var entries: [ApplicationDetail.Entry] = []
    var positions: [Int: Int] = [:]
    let own = containers.filter { $0.appId == appId }.sorted { $0.createdAt < $1.createdAt }
    for service in own {
      if let position = positions[service.imageId] {
        entries[position].status = "Handing over"
        continue
      }
      positions[service.imageId] = entries.count
      entries.append(
        .init(
          imageId: service.imageId, status: service.container?.status.text ?? "Unknown",
          releaseId: service.releaseId, progress: nil))
    }
    for report in images where report.image.appId == appId {
      guard let imageId = report.image.imageId, positions[imageId] == nil else { continue }
      positions[imageId] = entries.count
      entries.append(
        .init(
          imageId: imageId, status: report.status.rawValue, releaseId: report.image.releaseId ?? 0,
          progress: report.progress))
    }
    return entries
  }

  public func stateStatus(commits: [Int: String], covers: (Int) -> Bool) -> StateStatus {
    let visible = images.filter { $0.image.appId.map(covers) ?? false }
    let chosen = containers.first { covers($0.appId) }?.appId ?? visible.first?.image.appId
    let downloading = visible.filter { $0.status == .downloading }
    return StateStatus(
      overallDownloadProgress: ImageReport.overallProgress(downloading),
      containers: containers.filter { $0.appId == chosen },
      images: visible.filter { $0.image.appId == chosen }, release: chosen.flatMap { commits[$0] })
  }

  /// Of the app with the lowest id, the service with the lowest image id; nil without apps.
  public func deviceSummary(commits: [Int: String]) -> DeviceSummary? {
    let ids = containers.map(\.appId) + images.compactMap(\.image.appId)
    guard let appId = ids.min() else { return nil }
    let entry = entries(appId: appId).min { $0.imageId < $1.imageId }
    return DeviceSummary(
      appId: appId, commit: commits[appId], status: entry.map { $0.status == "Running" ? "Idle" : $0.status },
      progress: entry?.progress)
  }
}
