import Cloud
import Database
import Engine
import EventLoop
import Glibc
import HostConfiguration
import JSON
import Logging
import Model
import StateEngine

// The apps that the device was made with (target-state 8).
//
// The file is only ever renamed, after its content is in the database. Whatever is wrong with it is said
// in the log with its path, and the file stays as it is. Killed at any instant, the next start does it
// again, or finds it done.

extension Agent {
  /// Delays between tries while the engine cannot be asked: twice as long each time.
  private static let firstPreloadDelay = Duration.seconds(1)
  private static let longestPreloadDelay = Duration.seconds(30)

  /// A device that a cloud knows, and that has a target, has no use for the file any more.
  private var isPreloadWanted: Bool {
    guard settings.isProvisioned else { return true }
    do throws(DatabaseError) { return try !store.targets.isSet() } catch { return false }
  }

  /// Takes the file, if there is one that counts, as soon as the engine can be asked for its images.
  func loadPreload() async {
    defer { notePreloadTry() }
    guard isPreloadWanted, let document = readPreload() else { return }
    let source = settings.isUnmanaged ? "local" : settings.string(.apiEndpoint) ?? ""
    var preload: Preload
    do throws(TargetStateError) {
      preload = try Preload(parsing: try current(document), source: source)
    } catch {
      return refusePreload(error.message)
    }
    if preload.isEmpty { return }
    preload.target.config = configuration(overlaidBy: preload.target.config)
    await take(preload, source: source)
  }

  private func take(_ preload: Preload, source: String) async {
    guard let stateEngine else { return }
    var delay = Self.firstPreloadDelay
    while !Task.isCancelled {
      do throws(PreloadFailure) {
        guard try await stateEngine.takePreload(preload, source: source, isWanted: { isPreloadWanted }) else {
          return logger.notice("\(paths.preload) is not used: a target state has come in the meantime")
        }
        let names = preload.target.apps.map { "\($0.name) (\($0.release?.commit ?? ""))" }
        logger.notice("Preloaded from \(paths.preload): \(names.joined(separator: ", "))")
        putPreloadAway()
        cloud?.preloadIsTaken()
        return
      } catch {
        // What the engine refuses now it refuses later, too.
        guard case .engine(let reason) = error, reason.statusCode.map({ $0 >= 500 }) != false else {
          return refusePreload(error.description)
        }
        logger.warning("\(paths.preload) waits for the engine: \(reason)")
        notePreloadTry()
      }
      try? await Task.sleep(for: delay, tolerance: .milliseconds(500))
      delay = min(delay * 2, Self.longestPreloadDelay)
    }
  }

  /// The link to the cloud waits for the first one, and not for the engine.
  private func notePreloadTry() {
    isPreloadTried = true
    preloadTry.ring()
  }

  public func preloadIsTried() async {
    while !isPreloadTried, !Task.isCancelled { await preloadTry.wait(Optional.none) }
  }

  private func refusePreload(_ reason: String) {
    logger.error("\(paths.preload) is not used, and stays as it is: \(reason)")
  }

  /// - Returns: nil when there is no file, or none that can be read.
  private func readPreload() -> JSON? {
    var status = stat()
    // An engine makes a directory of a path that it is told to mount and does not find.
    guard stat(paths.preload, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      logger.debug("No apps.json file present, skipping preload")
      return nil
    }
    let content: [UInt8]
    do throws(FileError) { content = try DurableFile.read(paths.preload) } catch {
      refusePreload(error.message)
      return nil
    }
    do throws(JSONSyntaxError) { return try JSON(parsing: content) } catch {
      refusePreload("it is not JSON: \(error)")
      return nil
    }
  }

  /// A file of the former format has apps by number. Their uuids are the cloud's to tell; without a cloud
  /// a number will do.
  private func current(_ document: JSON) throws(TargetStateError) -> JSON {
    guard !Preload.formerAppIds(in: document).isEmpty else { return document }
    guard settings.isUnmanaged else {
      throw TargetStateError(
        .failed,
        "Cannot migrate from v2 apps.json without Internet connectivity. Please use balenaCLI v13.5.1+ for offline preload support."
      )
    }
    return try Preload.converted(former: document, uuids: [:])
  }

  /// A file that says nothing of the boot configuration takes nothing of it away.
  private func configuration(overlaidBy config: [String: String]) -> [String: String] {
    currentConfiguration.filter { !$0.value.isEmpty }
      .merging(DeviceConfiguration.bareNames(config)) { _, file in file }
  }

  /// Step 6: the file is kept under another name, and one without apps takes its place.
  private func putPreloadAway() {
    let kept = paths.preload + ".preloaded"
    if access(kept, F_OK) != 0, rename(paths.preload, kept) != 0 {
      logger.warning("Cannot rename \(paths.preload) to \(kept): \(String(cString: strerror(errno)))")
      return
    }
    do throws(FileError) { try DurableFile.write(Array("{}".utf8), to: paths.preload) } catch {
      logger.warning("Cannot empty \(paths.preload): \(error)")
    }
  }
}
