import Database
import Model

// A row of the image table stands for an image and for the use that a release makes of it
// (state-engine 6.2).
nonisolated extension StoredImage {
  /// The row that a target service needs.
  public init(for service: Service) {
    self.init(
      name: service.imageName, appId: service.appId, appUuid: service.appUuid,
      serviceId: service.serviceId, serviceName: service.name, imageId: service.imageId,
      releaseId: service.releaseId, commit: service.commit)
  }

  /// The use alone: the row without the row's and the engine's id.
  public var use: StoredImage {
    var use = self
    use.id = nil
    use.engineId = nil
    return use
  }
}
