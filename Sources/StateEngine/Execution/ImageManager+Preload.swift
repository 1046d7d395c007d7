import Engine
import Model

extension ImageManager {
  /// The engine's id of an image that came with the device, which may have lost its digest on the way, as
  /// `docker save` and `docker load` lose it: the tag of its repository then stands for it.
  ///
  /// - Returns: nil when the engine does not have it.
  func findPreloaded(_ name: String) async throws(EngineError) -> String? {
    if let id = try await find(name) { return id }
    let parts = ImageName(name)
    guard parts.digest != nil else { return nil }
    let listed = try await engine.listImages(references: ["\(parts.repository):latest"])
    return listed.first { $0.repoDigests.allSatisfy { $0.hasPrefix("<none>") } }?.id
  }
}
