/// What of a target app has to be at hand at any time: enough to say how far the device is with it.
public nonisolated struct TargetOutline: Sendable, Hashable {
  public var appId: Int
  public var uuid: String?
  public var name: String
  public var commit: String?
  public var isHost: Bool
  public var isRejected: Bool
  public var services: [Service]

  /// A service that the app's release is to run.
  public struct Service: Sendable, Hashable {
    public var name: String
    public var serviceId: Int
    public var imageId: Int
    public var releaseId: Int
    /// Normalised image reference.
    public var imageName: String
  }

  /// - Parameter app: a target app.
  public init(_ app: App) {
    appId = app.appId
    uuid = app.uuid
    name = app.name
    commit = app.commit
    isHost = app.isHost
    isRejected = app.isRejected
    services = app.services.map { service in
      Service(
        name: service.name, serviceId: service.serviceId, imageId: service.imageId,
        releaseId: service.releaseId, imageName: service.imageName)
    }
  }
}
