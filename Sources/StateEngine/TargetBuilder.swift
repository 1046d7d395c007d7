import Database
import Engine
import Logging
import Model

/// Maps the stored target to what the engine would be told, with what is known of its images.
///
/// The target is mapped again when something that it depends on has changed: the stored target, the
/// context of the device, or which image a name stands for. The values are kept while there is something
/// to do; see `MappedTarget`.
final class TargetBuilder {
  private var target = MappedTarget()
  private var infos: [String: ImageInfo] = [:]
  private var builtWith: Key?
  private var loadCount = 0
  /// Hashes of what was noted.
  private var notedTexts: Set<Int> = []
  private var newProblems: [String] = []

  private let engine: EngineClient
  private let logger: Logger

  private struct Key: Equatable {
    var load: Int
    var context: MappingContext
    /// Image name to the engine's id.
    var images: [String: String]
  }

  init(engine: EngineClient, logger: Logger) {
    self.engine = engine
    self.logger = logger
  }

  /// Normalised names of all images of the target.
  var imageNames: [String] { target.imageNames }

  /// Of the target as it was last mapped.
  var outlines: [TargetOutline] { target.outlines }

  /// The target that was last mapped is the one that was loaded last.
  var isCurrent: Bool { target.isCurrent }

  /// The target as it was last mapped.
  var apps: [App] { target.apps }

  /// `apps`, at hand until `letGo`.
  func heldApps() -> [App] { target.heldApps() }

  func letGo() { target.letGo() }

  func load(_ rows: [StoredTargetApp]) {
    loadCount += 1
    target.load(rows)
  }

  /// - Parameter apiKey: the key of a service that asks for the agent's API.
  func build(
    context: MappingContext, inventory: ImageInventory, apiKey: (_ appId: Int, _ service: String) -> String?
  ) async throws(EngineError) {
    var ids: [String: String] = [:]
    for name in imageNames {
      let row = inventory.availableRows.first { ImageName.isSame($0.name, name) }
      if let id = inventory.engineId(ofName: name) ?? row.flatMap(inventory.engineId(of:)) { ids[name] = id }
    }
    let key = Key(load: loadCount, context: context, images: ids)
    guard key != builtWith else { return }

    for id in Set(ids.values) where infos[id] == nil {
      do throws(EngineError) {
        infos[id] = ImageInfo(inspecting: try await engine.inspectImage(id))
      } catch  where error.isNotFound {
        // Gone since it was listed; the listing will say so.
      }
    }
    // Another target was loaded meanwhile: what is known of images was asked for the former one.
    guard loadCount == key.load else {
      return try await build(context: context, inventory: inventory, apiKey: apiKey)
    }
    let wanted = Set(ids.values)
    infos = infos.filter { wanted.contains($0.key) }
    let known = target.problems
    target.map(context: context, images: ImageFacts(ids: ids, infos: infos), apiKey: apiKey, note: warn)
    newProblems += target.problems.filter { known[$0.key] != $0.value }.sorted { $0.key < $1.key }
      .map(\.value)
    builtWith = key
  }

  /// Apps that could be mapped before, or not for this reason; each is told once.
  func takeNewProblems() -> [String] {
    defer { newProblems = [] }
    return newProblems
  }

  private func warn(_ text: String) {
    if notedTexts.count > 1000 { notedTexts.removeAll() }
    if notedTexts.insert(text.hashValue).inserted { logger.warning("\(text)") }
  }
}
