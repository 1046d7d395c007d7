import Database
import Engine
import JSON
import Model

extension ImageManager {
  /// The engine's id of an image that came with the device: by its full name, else by a tag of its
  /// repository, else as a row of the table knows it (target-state 4.6).
  ///
  /// - Returns: nil when the engine does not have it.
  func findPreloaded(_ name: String) async throws(EngineError) -> String? {
    do throws(EngineError) {
      if let id = try await engine.inspectImage(name)["Id"]?.stringValue { return id }
    } catch  where error.isNotFound {
      // Go on; the engine may know it without its digest.
    }
    let parts = ImageName(name)
    let reference = parts.tag.map { "\(parts.repository):\($0)" } ?? String(parts.repository)
    if let image = try await engine.listImages(references: [reference]).first { return image.id }
    return inventory.engineId(ofName: name)
  }
}
