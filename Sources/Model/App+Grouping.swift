// Containers, networks and volumes of the engine, put together to apps (target-state 4.3).
nonisolated extension App {
  /// The apps that the engine's supervised objects belong to, by app id.
  ///
  /// When every object knows its app's uuid they are grouped by it; one that does not, from
  /// before app uuids, makes the number count for all.
  ///
  /// - Parameter commits: the commit last applied in full, by app id.
  public static func groupingCurrent(
    services: [Service], networks: [Network], volumes: [Volume], commits: [Int: String]
  ) -> [App] {
    let isByUuid =
      services.allSatisfy { $0.appUuid != nil } && networks.allSatisfy { $0.appUuid != nil }
      && volumes.allSatisfy { $0.appUuid != nil }
    func key(_ appId: Int, _ uuid: String?) -> String { isByUuid ? uuid ?? "" : "\(appId)" }

    var order: [String] = []
    var apps: [String: App] = [:]
    func withApp(_ appId: Int, _ uuid: String?, _ change: (inout App) -> Void) {
      let key = key(appId, uuid)
      if apps[key] == nil { order.append(key) }
      var app = apps.removeValue(forKey: key) ?? App(appId: appId, uuid: uuid, name: "")
      if app.appId == 0 { app.appId = appId }
      if app.uuid == nil { app.uuid = uuid }
      change(&app)
      apps[key] = app
    }
    for service in services { withApp(service.appId, service.appUuid) { $0.services.append(service) } }
    for network in networks { withApp(network.appId, network.appUuid) { $0.networks.append(network) } }
    for volume in volumes { withApp(volume.appId, volume.appUuid) { $0.volumes.append(volume) } }

    return order.compactMap { apps[$0] }
      .map { app in
        var app = app
        app.commit = commits[app.appId]
        return app
      }
      .sorted { $0.appId < $1.appId }
  }
}
