import Database
import Engine
import JSON
import Logging
import Model

/// Maps the stored target to what the engine would be told, with what is known of its images.
///
/// Mapping is repeated only when something that it depends on has changed: the stored target,
/// the context of the device, or which image a name stands for.
final class TargetBuilder {
  private(set) var apps: [App] = []

  private var targets: [TargetApp] = []
  private var infos: [String: ImageInfo] = [:]
  private var builtWith: Key?
  private var loadCount = 0
  private var notedTexts: Set<String> = []
  /// Why an app cannot be mapped, by app id.
  private var problems: [Int: String] = [:]
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
  private(set) var imageNames: [String] = []

  func load(_ apps: [TargetApp]) {
    loadCount += 1
    if apps != targets { problems = [:] }
    targets = apps
    imageNames = apps.flatMap(\.imageNames)
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
    let wanted = Set(ids.values)
    infos = infos.filter { wanted.contains($0.key) }
    let byName = ids.compactMapValues { infos[$0] }

    var context = context
    for target in targets {
      for service in target.servicesWithSupervisorApi(images: byName) {
        context.supervisorApiKeys[.init(appId: target.appId, serviceName: service)] =
          apiKey(target.appId, service)
      }
    }
    var failed: [Int: String] = [:]
    apps = targets.map { target in
      do throws(ModelError) {
        let (app, notes) = try App.target(from: target, context: context, images: byName)
        for note in notes { warn(note) }
        return app
      } catch {
        // Not gone from the target: what runs of it stays as it is.
        failed[target.appId] = "app \(target.name): \(error)"
        return App.unmapped(target, because: error)
      }
    }
    newProblems += failed.filter { problems[$0.key] != $0.value }.sorted { $0.key < $1.key }.map(\.value)
    problems = failed
    builtWith = key
  }

  /// Apps that could be mapped before, or not for this reason; each is told once.
  func takeNewProblems() -> [String] {
    defer { newProblems = [] }
    return newProblems
  }

  private func warn(_ text: String) {
    if notedTexts.count > 1000 { notedTexts.removeAll() }
    if notedTexts.insert(text).inserted { logger.warning("\(text)") }
  }
}
