import Database
import Engine
import EventLoop
import Glibc
import JSON
import Logging
import Model

// Bringing an image to the device (state-engine 6.3 to 6.5).
extension ImageManager {
  /// Bytes that must stay free where the engine keeps its images; below it a pull is refused.
  static let freeSpaceReserveBytes: UInt64 = 16 << 20
  /// A pull without a sign of life for this long is said to be stalled.
  static let stallTime = Duration.seconds(30)

  /// Pulls the image unless the engine has it, and stores the row.
  ///
  /// A failure is counted for the image alone; the step itself succeeds, so that the rest of the
  /// app is not held up by more than the missing image.
  func fetch(_ row: StoredImage) async throws(StepError) {
    guard activities[row.name] == nil, lookups.insert(row.name).inserted else { return }
    defer {
      lookups.remove(row.name)
      activities[row.name] = nil
      current.invalidateImages()
      changed()
    }
    do throws(DownloadError) {
      if let id = try await attempt({ () throws(EngineError) in try await find(row.name) }) {
        try await attempt { () throws(EngineError) in try await save(id, row: row) }
        metrics.found += 1
      } else {
        try await download(row)
      }
      succeed(row.name)
    } catch {
      guard case .fault(let fault) = error else {
        metrics.downloadsCancelled += 1
        logger.info("The download of image '\(row.name)' was given up for a newer target")
        throw .cancelled
      }
      noteFailure(of: row.name, fault)
    }
  }

  private func noteFailure(of name: String, _ fault: ImageFault) {
    fail(name, fault)
    if fault.kind == .deltaPending {
      metrics.deltasPending += 1
      host?.report(
        .deltaStillProcessing, text: SystemEvent.deltaStillProcessing.humanName, isError: false)
    } else {
      metrics.downloadsFailed += 1
      report(.imageDownloadError, name, cause: fault.text)
    }
  }

  private func download(_ row: StoredImage) async throws(DownloadError) {
    activities[row.name] = Activity(row: row, isDeleting: false, progress: 0)
    changed()
    try await checkFreeSpace()
    if backOff.failures(of: row.name) > 0 { metrics.retries += 1 }
    let id: String
    switch try await applyDelta(for: row) {
    case .applied(let applied): id = applied
    case .notTried:
      report(.downloadImage, row.name)
      id = try await pullPlain(row.name)
    case .plainInstead(let reason):
      logger.info("Image '\(row.name)' is downloaded as a whole: \(reason)")
      activities[row.name]?.progress = 0
      id = try await pullPlain(row.name)
    }
    try await attempt { () throws(EngineError) in try await save(id, row: row) }
    metrics.downloadsCompleted += 1
    report(.imageDownloaded, row.name)
  }

  private func pullPlain(_ name: String) async throws(DownloadError) -> String {
    let registry = try reference(name).registry
    let credentials = registry.flatMap { host?.registryCredentials(registry: $0) }
    let found = try await attempt { () throws(EngineError) in
      try await pull(name, for: name, credentials: credentials)
      return try await find(name)
    }
    guard let found else {
      throw .fault(ImageFault(.other, message: "the image is not there after its download"))
    }
    return found
  }

  func reference(_ name: String) throws(DownloadError) -> ImageReference {
    do throws(ModelError) { return try ImageReference(parsing: name) } catch {
      throw .fault(ImageFault(.other, message: "\(error)"))
    }
  }

  /// Runs calls of the engine; what they throw becomes the image's fault.
  func attempt<T: Sendable>(
    _ body: () async throws(EngineError) -> T
  ) async throws(DownloadError) -> T {
    do throws(EngineError) { return try await body() } catch {
      throw error.kind == .cancelled ? .cancelled : .fault(ImageFault(error))
    }
  }

  /// Pulls `source`; its progress is shown as that of the image `name`.
  func pull(
    _ source: String, for name: String, credentials: RegistryCredentials?
  ) async throws(EngineError) {
    var progress = PullProgress(flavor: try await engineFlavor())
    metrics.pulls += 1
    let watch = watchStall(of: name)
    defer { watch.timer.cancel() }
    let stream = try await engine.pullImage(PullReference(source), credentials: credentials)
    var received = 0
    while let event = try await stream.next() {
      watch.heard()
      if activities[name]?.isStalled == true { noteStall(of: name, isStalled: false) }
      let hasMoved = progress.consume(event)
      metrics.bytesReceived += progress.bytesReceived - received
      received = progress.bytesReceived
      guard hasMoved, let shown = activities[name]?.progress, shown < progress.percent else { continue }
      activities[name]?.progress = progress.percent
      changed()
    }
    metrics.pullsCompleted += 1
  }

  // MARK: Stalls

  private func watchStall(of name: String) -> StallWatch {
    StallWatch(after: Self.stallTime) { [weak self] in self?.noteStall(of: name, isStalled: true) }
  }

  private func noteStall(of name: String, isStalled: Bool) {
    guard let activity = activities[name], activity.isStalled != isStalled else { return }
    activities[name]?.isStalled = isStalled
    if isStalled {
      let seconds = Self.stallTime.components.seconds
      logger.warning(
        "The engine has said nothing of the download of image '\(name)' for \(seconds) s; it is at \(activity.progress) %"
      )
    } else {
      logger.notice("The download of image '\(name)' goes on")
    }
    changed()
  }

  /// Asked once; an engine is not replaced by one of another make while we run.
  func engineFlavor() async throws(EngineError) -> VersionInfo.Flavor {
    if let flavor { return flavor }
    let found = try await engine.version().flavor
    flavor = found
    return found
  }

  // MARK: What is there

  /// The engine's id of an image (6.3): by its name, by a listed image of that tag or digest, or
  /// as a row of the same image knows it. nil when the engine has none of them.
  func find(_ name: String) async throws(EngineError) -> String? {
    if let id = try await idIfPresent(name) { return id }
    guard let wanted = try? ImageReference(parsing: name) else { return nil }
    let listed = try await engine.listImages(references: [Self.listFilter(wanted)])
    // A repository holds many images: one that is named by digest must have that digest.
    let match = listed.first { image in
      guard let digest = wanted.digest else { return true }
      return image.repoDigests.contains { $0.hasSuffix("@\(digest)") }
    }
    if let match { return match.id }
    for row in rows where ImageName.isSame(row.name, name) {
      if let known = row.engineId, let id = try await idIfPresent(known) { return id }
    }
    return nil
  }

  /// `repository[:tag]`
  private static func listFilter(_ reference: ImageReference) -> String {
    guard reference.digest == nil, let tag = reference.tag else { return reference.name }
    return "\(reference.name):\(tag)"
  }

  func idIfPresent(_ name: String) async throws(EngineError) -> String? {
    try await inspectIfPresent(name)["Id"]?.stringValue
  }

  /// null when the engine does not have it.
  func inspectIfPresent(_ name: String) async throws(EngineError) -> JSON {
    do throws(EngineError) {
      return try await engine.inspectImage(name)
    } catch  where error.isNotFound {
      return .null
    }
  }

  // MARK: Space

  private func checkFreeSpace() async throws(DownloadError) {
    if dataRoot == nil {
      let info = try await attempt { () throws(EngineError) in try await engine.info() }
      dataRoot = info["DockerRootDir"]?.stringValue
    }
    guard let dataRoot, let path = host?.pathOnHost(dataRoot) else { return }
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return }
    let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
    guard free < Self.freeSpaceReserveBytes else { return }
    let needed = Self.freeSpaceReserveBytes >> 20
    throw .fault(
      ImageFault(
        .diskFull,
        message: "\(free >> 20) MiB are free in \(dataRoot), a download begins with \(needed) MiB or more"))
  }
}

/// Why a download did not end with the image on the device.
nonisolated enum DownloadError: Error, Hashable {
  case cancelled
  case fault(ImageFault)
}

/// Notices that a pull has gone quiet; costs one wake-up per period while the pull runs.
final class StallWatch {
  private let period: Duration
  private var lastSign = MonotonicTime.read()
  private(set) var timer: LoopTimer

  init(after period: Duration, onStall: @escaping () -> Void) {
    self.period = period
    timer = EventLoop.shared.schedule(after: period, tolerance: period / 10) {}
    timer.cancel()
    arm(onStall)
  }

  func heard() { lastSign = EventLoop.shared.now }

  private func arm(_ onStall: @escaping () -> Void) {
    timer = EventLoop.shared.schedule(after: period, tolerance: period / 10) { [weak self] in
      guard let self else { return }
      if .read() - lastSign >= period { onStall() }
      arm(onStall)
    }
  }
}
