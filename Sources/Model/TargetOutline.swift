/// What of a target app has to be at hand at any time: enough to say how far the device is with it.
public nonisolated struct TargetOutline: Sendable, Hashable {
  public var appId: Int
  public var uuid: String?
  public var name: String
  public var commit: String?
  public var isHost: Bool
  public var isRejected: Bool

  private var ids: [Ids]
  private var names: PackedTexts
  private var imageNames: PackedTexts

  private struct Ids: Sendable, Hashable {
    var service: Int
    var image: Int
    var release: Int
  }

  /// What the app's release is to run; made anew at each reading, for what is kept of it is packed.
  public var services: [Service] {
    ids.indices.map { position in
      Service(
        name: names[position], serviceId: ids[position].service, imageId: ids[position].image,
        releaseId: ids[position].release, imageName: imageNames[position])
    }
  }

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
    ids = app.services.map { Ids(service: $0.serviceId, image: $0.imageId, release: $0.releaseId) }
    names = PackedTexts(app.services.map(\.name))
    imageNames = PackedTexts(app.services.map(\.imageName))
  }
}
