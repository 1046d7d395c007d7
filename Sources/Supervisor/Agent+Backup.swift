import Engine
import EventLoop
import Glibc
import HostConfiguration
import Logging
import Model
import StateEngine

// The volumes of a device that was migrated from another system (target-state 8.4).
//
// The installer leaves `backup.tgz` on the data partition, one directory for each volume of the app. No
// service starts before they are in their volumes: one that found its volume empty would begin anew. The
// archive is deleted last, so that a device that loses power in the middle does all of it again.

extension Agent {
  /// An archive of a whole data partition.
  private static let extractionLimit = Duration.seconds(6 * 3600)

  private var backupDirectory: String { String(paths.migrationBackup.dropLast(".tgz".count)) }

  /// An engine makes a directory of a path that it is told to mount and does not find.
  private var hasBackup: Bool {
    var status = stat()
    return stat(paths.migrationBackup, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  /// Holds the target back while there is a backup. Call it before the state engine starts.
  func holdForBackup() {
    guard hasBackup else { return }
    logger.notice(
      "Migration backup \(paths.migrationBackup) detected: no service starts before it is restored")
    stateEngine?.hold()
    Task { await restoreBackup() }
  }

  private func restoreBackup() async {
    while hasBackup {
      do throws(StartFailure) {
        guard try await restoreBackupOnce() else {
          try? await Task.sleep(for: .seconds(1), tolerance: .milliseconds(500))
          continue
        }
        break
      } catch {
        logger.error("Error restoring migration backup: \(error)")
      }
      let delay = settings.int(.bootstrapRetryDelay)
      try? await Task.sleep(for: .milliseconds(delay), tolerance: .seconds(1))
      stateEngine?.trigger()
    }
    stateEngine?.endHold()
  }

  /// - Returns: false while there is no target to tell the volumes.
  private func restoreBackupOnce() async throws(StartFailure) -> Bool {
    guard let stateEngine, let app = stateEngine.targetApps.first(where: { !$0.isHost && $0.commit != nil })
    else { return false }
    try await clear(backupDirectory)
    guard mkdir(backupDirectory, 0o700) == 0 else { throw failure("cannot create", backupDirectory) }
    try await run("/bin/tar", ["-xzf", paths.migrationBackup, "-C", backupDirectory])
    for name in try directories() {
      guard app.volumes.contains(where: { $0.name == name }) else {
        throw StartFailure(
          text:
            "the release of app \(app.appId) has no volume named '\(name)', as a directory of \(paths.migrationBackup) is"
        )
      }
    }
    for name in try directories() {
      let place: String?
      do throws(EngineError) {
        place = try await stateEngine.renewVolume(name, appId: app.appId)
      } catch {
        throw StartFailure(text: "volume '\(name)' cannot be made anew: \(error)")
      }
      guard let place else { return false }
      let target = paths.onHost(String(place.drop { $0 == "/" }))
      try await run("/bin/mv", ["-T", "\(backupDirectory)/\(name)", target])
      logger.notice("Restored volume '\(name)' of app \(app.appId) from \(paths.migrationBackup)")
    }
    try await run("/bin/sync", [])
    try await clear(backupDirectory)
    guard unlink(paths.migrationBackup) == 0 else { throw failure("cannot delete", paths.migrationBackup) }
    return true
  }

  /// Names of what was extracted, which has to be directories alone.
  private func directories() throws(StartFailure) -> [String] {
    guard let listing = opendir(backupDirectory) else { throw failure("cannot read", backupDirectory) }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name == "." || name == ".." { continue }
      guard HostPaths.isDirectory("\(backupDirectory)/\(name)") else {
        throw StartFailure(text: "'\(name)' in \(paths.migrationBackup) is not a directory")
      }
      names.append(name)
    }
    return names.sorted()
  }

  private func clear(_ directory: String) async throws(StartFailure) {
    try await run("/bin/rm", ["-rf", "--", directory])
  }

  private func run(_ program: String, _ arguments: [String]) async throws(StartFailure) {
    let outcome: ChildProcess.Outcome
    do throws(SystemError) {
      outcome = try await ChildProcess.run(program, arguments, timeout: Self.extractionLimit)
    } catch {
      throw StartFailure(text: "\(error)")
    }
    guard outcome.isSuccess else {
      let text = String(decoding: outcome.errorOutput.prefix(500), as: UTF8.self)
      throw StartFailure(text: "\(program): \(text)")
    }
  }

  private func failure(_ what: String, _ path: String) -> StartFailure {
    StartFailure(text: "\(what) \(path): \(String(cString: strerror(errno)))")
  }
}
