import Database
import Engine
import EventLoop
import JSON
import Logging
import Model

/// Why a step could not be done.
public nonisolated enum StepError: Error, Sendable, CustomStringConvertible {
  case engine(EngineError)
  case model(ModelError)
  case database(DatabaseError)
  case lock(UpdateLockError)
  /// With a text for the user.
  case failed(String)
  case cancelled

  public var description: String {
    switch self {
    case .engine(let error): error.message
    case .model(let error): "\(error)"
    case .database(let error): error.message
    case .lock(let error): "\(error)"
    case .failed(let text): text
    case .cancelled: "cancelled"
    }
  }
}

/// Does what a step says: the only place that changes the device.
///
/// Every step may be repeated: what is already as it shall be is not an error. The steps of
/// services are in `StepExecutor+Services`, those of images in `ImageManager`.
final class StepExecutor {
  let engine: EngineClient
  let current: CurrentState
  let images: ImageManager
  let locks: UpdateLocks
  let store: Store
  let host: any StepHost
  let logger: Logger

  /// Old containers of hand-overs that are not complete.
  var handovers: [String: Task<Void, Never>] = [:]
  /// Called when a hand-over is complete.
  var onHandover: () -> Void = {}
  /// Does the step `reboot`, which concerns the whole engine.
  var reboot: () async throws(StepError) -> Void = {}

  init(
    engine: EngineClient, current: CurrentState, images: ImageManager, locks: UpdateLocks, store: Store,
    host: any StepHost, logger: Logger
  ) {
    self.engine = engine
    self.current = current
    self.images = images
    self.locks = locks
    self.store = store
    self.host = host
    self.logger = logger
  }

  func execute(_ planned: PlannedStep) async throws(StepError) {
    switch planned.step {
    case .ensureSupervisorNetwork: try await ensureSupervisorNetwork()
    case .ensureExtraFirmwareVolume: try await ensureExtraFirmwareVolume()
    case .fetch(let row): try await images.fetch(row)
    case .saveImage(let row, let engineId): try await images.save(row, engineId: engineId)
    case .removeImage(let row, let isNameShared): try await images.remove(row, isNameShared: isNameShared)
    case .cleanUpImages(let ids): await images.cleanUp(ids)
    case .createNetwork(let network): try await create(network)
    case .removeNetwork(let network): try await remove(network)
    case .createVolume(let volume): try await create(volume)
    case .removeVolume(let volume): try await remove(volume)
    case .takeLock(let appId, let services, let force):
      report(.takeLocks, object: nil)
      do throws(UpdateLockError) {
        try await locks.take(
          appId: appId, services: services, force: force || host.isLockOverridden)
      } catch { throw .lock(error) }
    case .releaseLock(let appId):
      report(.releaseLocks, object: nil)
      locks.release(appId: appId)
    case .start(let target, let container): try await start(target, container: container)
    case .kill(let service): try await stop(service, thenRemove: true)
    case .stop(let service): try await stop(service, thenRemove: false)
    case .remove(let service): try await removeDead(service)
    case .updateMetadata(let current, let target): try await rename(current, to: target)
    case .handover(let current, let target): try await handOver(current, to: target)
    case .setAside(let service): try await setAside(service)
    case .restore(let service): try await restore(service)
    case .requireReboot(_, let service): try host.scheduleReboot(service: service)
    case .reboot: try await reboot()
    case .updateCommit(let appId, let commit):
      do throws(DatabaseError) { try store.commits.set(commit, forApp: appId) } catch {
        throw .database(error)
      }
    }
  }

  func report(_ event: SystemEvent, object: String?, cause: String? = nil) {
    host.report(event, text: event.text(object: object, cause: cause), isError: cause != nil)
  }

  /// Runs a call of the engine and turns its error into the step's.
  @discardableResult
  func call<T: Sendable>(_ body: () async throws(EngineError) -> T) async throws(StepError) -> T {
    do throws(EngineError) { return try await body() } catch {
      if error.kind == .cancelled { throw .cancelled }
      throw .engine(error)
    }
  }

  // MARK: Networks

  private func create(_ network: Network) async throws(StepError) {
    report(.createNetwork, object: network.name)
    defer { current.invalidateNetworks() }
    do throws(EngineError) {
      do throws(EngineError) {
        let existing = try await engine.inspectNetwork(network.engineName)
        if let current = try? Network(inspecting: existing), current.differences(to: network).isEmpty {
          return
        }
        throw EngineError(
          kind: .invalidCall, call: "create network",
          message:
            "Trying to create network with name: \(network.name), but a network with that name and a different configuration already exists"
        )
      } catch  where error.isNotFound {
        _ = try await engine.createNetwork(network.createRequest)
      }
    } catch {
      report(.createNetworkError, object: network.name, cause: error.message)
      throw .engine(error)
    }
  }

  /// Every engine network of that name and app goes, duplicates included.
  private func remove(_ network: Network) async throws(StepError) {
    report(.removeNetwork, object: network.name)
    defer { current.invalidateNetworks() }
    let ids = current.networks.filter { $1.isSame(as: network) }.keys
    do throws(EngineError) {
      for id in ids {
        do throws(EngineError) { try await engine.removeNetwork(id) } catch  where error.isNotFound {}
      }
    } catch {
      report(.removeNetworkError, object: network.name, cause: error.message)
      throw .engine(error)
    }
  }

  private func ensureSupervisorNetwork() async throws(StepError) {
    defer { current.invalidateNetworks() }
    try await call { () throws(EngineError) in
      if case .wrong = current.supervisorNetwork {
        do throws(EngineError) { try await engine.removeNetwork(SupervisorNetwork.name) } catch
          where error.isNotFound
        {}
      }
      _ = try await engine.createNetwork(SupervisorNetwork.createRequest)
    }
  }

  // MARK: Volumes

  private func create(_ volume: Volume) async throws(StepError) {
    report(.createVolume, object: volume.name)
    defer { current.invalidateVolumes() }
    do throws(EngineError) {
      do throws(EngineError) {
        let existing = try await engine.inspectVolume(volume.engineName)
        if let current = Volume.reading(existing), current.differences(to: volume).isEmpty { return }
        throw EngineError(
          kind: .invalidCall, call: "create volume",
          message:
            "Trying to create volume with name: \(volume.name), but a volume with that name and a different configuration already exists"
        )
      } catch  where error.isNotFound {
        _ = try await engine.createVolume(volume.createRequest)
      }
    } catch {
      report(.createVolumeError, object: volume.name, cause: error.message)
      throw .engine(error)
    }
  }

  private func remove(_ volume: Volume) async throws(StepError) {
    report(.removeVolume, object: volume.name)
    defer { current.invalidateVolumes() }
    do throws(EngineError) {
      try await engine.removeVolume(volume.engineName)
    } catch  where error.isNotFound {
      return
    } catch {
      report(.removeVolumeError, object: volume.name, cause: error.message)
      throw .engine(error)
    }
  }

  /// Gives the firmware volume back empty: part of a purge (1.6).
  func emptyExtraFirmwareVolume() async throws(StepError) {
    defer { current.invalidateVolumes() }
    try await call { () throws(EngineError) in
      do throws(EngineError) { try await engine.removeVolume("extra-firmware") } catch  where error.isNotFound
      {
      }
      _ = try await engine.createVolume(["Name": "extra-firmware"])
    }
  }

  private func ensureExtraFirmwareVolume() async throws(StepError) {
    defer { current.invalidateVolumes() }
    try await call { () throws(EngineError) in
      if !current.hasExtraFirmwareVolume { _ = try await engine.createVolume(["Name": "extra-firmware"]) }
    }
    try await host.nameExtraFirmwareVolume()
  }
}

nonisolated extension Network {
  /// Whether the other one has its name and app; one from before app uuids has none.
  func isSame(as other: Network) -> Bool {
    name == other.name && (appId == other.appId || appUuid != nil && appUuid == other.appUuid)
  }
}

/// What the steps need of the host; implemented where the parts are put together.
public protocol StepHost: AnyObject {
  /// `SUPERVISOR_OVERRIDE_LOCK`.
  var isLockOverridden: Bool { get }
  /// Removes `extra-firmware`'s absence from config.json: `os.kernel.extraFirmwareVol`.
  func nameExtraFirmwareVolume() async throws(StepError)
  func scheduleReboot(service: String) throws(StepError)
  /// Asks the system to reboot; returns when it has taken the request.
  ///
  /// - Parameter force: also where a program of the host inhibits it.
  func reboot(force: Bool) async throws(StepError)
  /// Asks the system to power off; returns when it has taken the request.
  func powerOff(force: Bool) async throws(StepError)
  /// An update of the host waits for its verdict: a reboot now would undo it (1.7).
  var isHostUpdatePending: Bool { get }
  /// A line for the user, in the words of `SystemEvent`.
  func report(_ event: SystemEvent, text: String, isError: Bool)
  /// The device's name at this moment, for new containers.
  var deviceName: String { get }
  var deviceType: String { get }
  /// Credentials for a registry; nil for none.
  func registryCredentials(registry: String) -> RegistryCredentials?
  /// How to ask for deltas; nil when they are off.
  var deltaSettings: DeltaSettings? { get }
  /// Where the agent sees a path of the host; nil when it cannot.
  func pathOnHost(_ path: String) -> String?
  /// Host path of the directory with an app's lock and hand-over files.
  func serviceDirectory(appId: Int, service: String) -> String
}
