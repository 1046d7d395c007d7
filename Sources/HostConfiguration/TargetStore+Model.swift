import Database
import Logging
import Model

/// The stored target as values of the model.
extension TargetStore {
  /// Stores a target that was accepted (target-state 1.6, step 6), its configuration under bare names.
  public func replace(with target: TargetState, source: String) throws(DatabaseError) {
    try replace(
      target.apps.map { app in StoredApp(app.stored, source: source) }, source: source,
      deviceName: target.deviceName, deviceConfig: DeviceConfiguration.bareNames(target.config))
  }

  /// Apps to enforce (target-state 1.7). A row that cannot be read is reported and left out, so that one
  /// app does not stop the others.
  public func targetApps(source: String, logger: Logger) throws(DatabaseError) -> [TargetApp] {
    try apps(source: source).compactMap { row in
      do {
        return try TargetApp(stored: StoredTargetApp(row))
      } catch {
        logger.error("The stored target of app \(row.uuid) is left out: \(error)")
        return nil
      }
    }
  }
}

nonisolated extension StoredApp {
  fileprivate init(_ app: StoredTargetApp, source: String) {
    self.init(
      uuid: app.uuid, source: source, appId: app.appId, name: app.name, appClass: app.appClass,
      isHost: app.isHost, isRejected: app.isRejected, releaseId: app.releaseId, commit: app.commit,
      services: app.services, networks: app.networks, volumes: app.volumes)
  }
}

nonisolated extension StoredTargetApp {
  fileprivate init(_ row: StoredApp) {
    self.init(
      appId: row.appId, uuid: row.uuid, name: row.name, appClass: row.appClass, isHost: row.isHost,
      isRejected: row.isRejected, source: row.source, commit: row.commit, releaseId: row.releaseId,
      services: row.services, networks: row.networks, volumes: row.volumes)
  }
}
