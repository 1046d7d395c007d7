import Database
import Model

extension StateEngine {
  /// What the device runs and downloads, joined with the target; the source of every status
  /// that the API shows.
  public var report: StatusReport {
    let tasks = images.activities.values
      .sorted { $0.row.name < $1.row.name }
      .map { activity in
        ImageTask(
          image: activity.row,
          kind: activity.isDeleting ? .deleting : .downloading(progress: activity.progress))
      }
    var containers = currentApps.flatMap(\.services)
    for (key, status) in current.installingServices where !containers.contains(where: { $0.isOf(key) }) {
      guard var service = targetApps.flatMap(\.services).first(where: { $0.isOf(key) }) else { continue }
      service.container = Service.Container(
        id: "", name: service.containerName, createdAt: "", status: status)
      containers.append(service)
    }
    return StatusReport(
      images: ImageReport.list(available: images.inventory.availableRows, tasks: tasks),
      containers: containers, targets: targetOutlines)
  }
}

nonisolated extension Service {
  fileprivate func isOf(_ key: CurrentState.ServiceKey) -> Bool {
    appId == key.appId && name == key.service
  }
}
