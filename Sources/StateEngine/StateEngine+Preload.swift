import Database
public import Engine
import HostConfiguration
import JSON
import Logging
public import Model

/// Why the apps that came with the device are not taken.
public nonisolated enum PreloadFailure: Error, Sendable, CustomStringConvertible {
  /// The engine cannot be asked for the images now.
  case engine(EngineError)
  case imageMissing(service: String, image: String)
  case rejected(TargetRejection)

  public var description: String {
    switch self {
    case .engine(let error): "\(error)"
    case .imageMissing(let service, let image): "image \(image) of service \(service) is not on the device"
    case .rejected(let error): error.description
    }
  }
}

extension StateEngine {
  /// Takes the apps that came with the device: their images, which must all be there, get their rows,
  /// and the apps become the target (target-state 8.3, steps 4, 5 and 7). All of it is stored in one
  /// transaction: an image with a row but without a target would count as unused.
  ///
  /// - Parameters:
  ///   - preload: with the device configuration that is to become the target's.
  ///   - source: `local`, or the API endpoint.
  ///   - isWanted: asked again at the end; a target of the cloud may have come first.
  /// - Returns: false when it was not wanted any more.
  public func takePreload(
    _ preload: Preload, source: String, isWanted: () -> Bool
  ) async throws(PreloadFailure) -> Bool {
    var rows: [StoredImage] = []
    var ids: [String: String] = [:]
    for app in preload.target.apps {
      guard let release = app.release else { continue }
      for service in release.services {
        do throws(EngineError) {
          if ids[service.image] == nil, let id = try await images.findPreloaded(service.image) {
            try await images.tag(id, as: service.image)
            ids[service.image] = id
          }
        } catch {
          throw .engine(error)
        }
        guard let id = ids[service.image] else {
          throw .imageMissing(service: service.name, image: service.image)
        }
        rows.append(
          StoredImage(
            name: service.image, appId: app.appId, appUuid: app.uuid, serviceId: service.serviceId,
            serviceName: service.name, imageId: service.imageId, releaseId: release.id,
            commit: release.commit, engineId: id))
      }
    }
    guard isWanted() else { return false }
    do throws(TargetRejection) {
      try storeTarget(preload.target, source: source) { () throws(DatabaseError) in
        for row in rows { try store.images.save(row) }
        if let pin = preload.pin { try store.settings.set(SettingKey.pinDevice.name, to: pin.serialized()) }
      }
    } catch {
      throw .rejected(error)
    }
    images.reloadRows()
    current.invalidateImages()
    trigger(cancel: true)
    return true
  }
}
