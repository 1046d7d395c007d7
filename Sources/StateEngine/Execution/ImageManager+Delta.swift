import Database
import Engine
import EventLoop
import JSON
import Logging
import Model

// Downloading only what differs from an image that is there (state-engine 6.6).
extension ImageManager {
  enum DeltaOutcome {
    /// Deltas are off, or there is nothing to start from.
    case notTried
    /// The engine's id of the complete image.
    case applied(String)
    /// A plain pull has to do it; why.
    case plainInstead(String)
  }

  /// Tries to apply a delta before a plain pull takes over.
  static let deltaAttempts = 3
  /// Bytes: a smaller image is the stub of a version 2 delta, which no delta can start from.
  private static let stubSize = 40
  /// Of an image that is a delta, and that the engine did not turn into the image it stands for:
  /// the id of the image to start from.
  private static let deltaBaseLabel = "io.resin.delta.base"

  /// Downloads a delta, if deltas are wanted and there is one.
  ///
  /// - Throws: what has to be tried again later.
  func applyDelta(for row: StoredImage) async throws(DownloadError) -> DeltaOutcome {
    guard var settings = host?.deltaSettings,
      let source = ImageRules.deltaSource(for: row, in: inventory),
      let sourceName = try? ImageReference(parsing: source.name)
    else { return .notTried }
    let destination = try reference(row.name)
    guard destination.registry != nil else { return .notTried }
    let flavor = try await attempt { () throws(EngineError) in try await engineFlavor() }
    guard flavor == .balena, !engineKeepsDeltas else {
      logger.info("Image '\(row.name)' is downloaded as a whole: this engine does not apply deltas")
      return .notTried
    }
    // Those of version 2, which is the default, are applied with rsync; the service has both.
    if settings.version == 2 { settings.version = 3 }
    guard settings.version == 3 else {
      logger.info(
        "Image '\(row.name)' is downloaded as a whole: there are no deltas of version \(settings.version)")
      return .notTried
    }
    report(.downloadDelta, row.name)
    if let id = source.engineId, try await isStub(id) {
      return .plainInstead("the image on the device is a delta of version 2")
    }
    let answer: DeltaClient.Answer
    do throws(DeltaClient.Failure) {
      answer = try await deltas.request(from: sourceName, to: destination, settings: settings)
    } catch {
      throw error.isCancellation ? .cancelled : .fault(ImageFault(.deltaRefused, message: error.message))
    }
    switch answer {
    case .pending: throw .fault(ImageFault(.deltaPending, message: "it is still made remotely"))
    case .none(let reason): return .plainInstead(reason)
    case .image(let name, let token):
      return try await apply(name, token: token, to: row.name, settings: settings)
    }
  }

  /// The engine applies the delta to the layers that it has. An answer with an error status is
  /// thrown; a pull that breaks off is begun again, a few times. An engine that knows nothing of
  /// deltas pulls one like any other image; it must never run as the service's.
  private func apply(
    _ delta: String, token: String, to name: String, settings: DeltaSettings
  ) async throws(DownloadError) -> DeltaOutcome {
    let deadline = settings.applyTimeout.map { MonotonicTime.read() + $0 }
    var lastFailure = ""
    for _ in 1...Self.deltaAttempts {
      do throws(EngineError) {
        metrics.deltaPulls += 1
        try await pull(delta, for: name, credentials: .token(token), until: deadline)
        let image = try await inspectIfPresent(delta)
        guard let id = image["Id"]?.stringValue else {
          throw EngineError(kind: .reported, call: "delta", message: "the image is not there")
        }
        guard image["Config"]?["Labels"]?[Self.deltaBaseLabel] == nil else {
          engineKeepsDeltas = true
          try? await removeIfPresent(delta)
          return .plainInstead("this engine does not apply deltas, it keeps them as they are")
        }
        try await tag(id, as: name)
        // The image lives on under the name that was asked for.
        try? await removeIfPresent(delta)
        return .applied(id)
      } catch {
        switch error.kind {
        case .cancelled: throw .cancelled
        case .status, .unreachable: throw .fault(ImageFault(error))
        case .timeout where deadline.map({ $0 <= .read() }) ?? false:
          return .plainInstead("the delta was not applied in time")
        default: lastFailure = error.message
        }
        logger.warning("The delta \(delta) could not be applied: \(lastFailure)")
      }
    }
    return .plainInstead("the delta could not be applied in \(Self.deltaAttempts) tries: \(lastFailure)")
  }

  /// A pull that is given up when its time is over, also when the engine says nothing of it.
  private func pull(
    _ source: String, for name: String, credentials: RegistryCredentials?, until deadline: MonotonicTime?
  ) async throws(EngineError) {
    guard let deadline else { return try await pull(source, for: name, credentials: credentials) }
    // No result of the task: see `PowerOutcome`.
    var failure: EngineError?
    let work = Task {
      do throws(EngineError) { try await pull(source, for: name, credentials: credentials) } catch {
        failure = error
      }
    }
    var isLate = false
    let timer = EventLoop.shared.schedule(after: max(.zero, deadline - .read())) {
      isLate = true
      work.cancel()
    }
    await withTaskCancellationHandler {
      await work.value
    } onCancel: {
      work.cancel()
    }
    timer.cancel()
    guard let failure else { return }
    guard !isLate || Task.isCancelled else {
      throw EngineError(kind: .timeout, call: "pull", message: "not complete in the time that it may take")
    }
    throw failure
  }

  private func isStub(_ id: String) async throws(DownloadError) -> Bool {
    let image = try await attempt { () throws(EngineError) in try await inspectIfPresent(id) }
    guard let size = image["Size"]?.intValue else { return false }
    return size < Self.stubSize && (image["VirtualSize"]?.intValue ?? size) < Self.stubSize
  }
}
