public import Engine
import JSON
import Model

extension StateEngine {
  /// Makes a volume anew, so that content can be put where it is kept (target-state 8.4).
  ///
  /// - Parameter name: as the release calls it.
  /// - Returns: its directory as the engine's host sees it; nil when the target has no such volume.
  public func renewVolume(_ name: String, appId: Int) async throws(EngineError) -> String? {
    let app = targetApps.first { $0.appId == appId }
    guard let volume = app?.volumes.first(where: { $0.name == name }) else { return nil }
    defer { current.invalidateVolumes() }
    do throws(EngineError) { try await engine.removeVolume(volume.engineName) } catch  where error.isNotFound
    {}
    return try await engine.createVolume(volume.createRequest)["Mountpoint"]?.stringValue
  }
}
