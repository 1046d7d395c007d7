import Database
import Model

/// The stored target as values of the model.
extension TargetStore {
  /// Stores a target that was accepted (target-state 1.6, step 6), its configuration under bare names.
  public func replace(with target: TargetState, source: String) throws(DatabaseError) {
    try replace(
      target.apps.map { app in StoredApp(app.stored, source: source) }, source: source,
      deviceName: target.deviceName, deviceConfig: DeviceConfiguration.bareNames(target.config))
  }

  /// Apps to enforce (target-state 1.7). An app whose row cannot be read carries its problem, so that it
  /// neither stops the others nor counts as gone from the target. Of two apps with one id the last counts.
  public func targetApps(source: String) throws(DatabaseError) -> [TargetApp] {
    try targetRows(source: source).map(TargetApp.init(reading:))
  }

  /// The rows of `targetApps`.
  public func targetRows(source: String) throws(DatabaseError) -> [StoredTargetApp] {
    let rows = try apps(source: source)
    let last = Dictionary(rows.enumerated().map { ($1.appId, $0) }) { $1 }
    return rows.enumerated().filter { last[$1.appId] == $0 }.map { StoredTargetApp($1) }
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
