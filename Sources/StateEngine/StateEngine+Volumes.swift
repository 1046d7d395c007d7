import Database
import Engine
import JSON
public import Model

// Views and actions for the API that need the engine at once.
extension StateEngine {
  /// The device's apps, read from the engine if what is known may be out of date.
  ///
  /// - Throws: `failed` when the engine cannot be asked.
  public func freshCurrentApps() async throws(ActionError) -> [App] {
    try await awaitPicture()
    return currentApps
  }

  private static let keptVolumes: Set = ["extra-firmware"]

  /// Removes volumes that no container mounts and no app of any target names (http-api 5.12).
  ///
  /// - Parameters:
  ///   - covers: apps whose left-over volumes may go.
  ///   - isUnrestricted: volumes that belong to no app may go too.
  /// - Throws: `failed` when the target cannot be read: without it nothing is safe to remove.
  public func removeUnusedVolumes(
    covers: (Int) -> Bool, isUnrestricted: Bool
  ) async throws(ActionError) {
    let targets: [Int: Set<String>]
    do throws(DatabaseError) { targets = try store.targets.volumeNames() } catch {
      throw .failed(error.message)
    }
    do throws(EngineError) {
      for volume in try await engine.listVolumes(unused: true) {
        guard let name = volume["Name"]?.stringValue, !Self.keptVolumes.contains(name) else { continue }
        let owner = Self.owner(ofVolume: name)
        if let owner, targets[owner.appId]?.contains(owner.name) == true { continue }
        guard isUnrestricted || owner.map({ covers($0.appId) }) ?? false else { continue }
        do throws(EngineError) { try await engine.removeVolume(name) } catch  where error.isNotFound {}
      }
    } catch {
      current.invalidateVolumes()
      throw .failed(error.message)
    }
    current.invalidateVolumes()
    wake.set()
  }

  /// The parts of `<appId>_<volume>`.
  private static func owner(ofVolume engineName: String) -> (appId: Int, name: String)? {
    guard let underscore = engineName.firstIndex(of: "_"), let appId = Int(engineName[..<underscore]) else {
      return nil
    }
    return (appId, String(engineName[engineName.index(after: underscore)...]))
  }
}
