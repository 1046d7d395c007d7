public import Engine

/// Why an action of the API was not done, or not to its end. `description` is the text that the
/// caller of the API reads (http-api 2.6, 4.6, 4.7, 5.1).
public nonisolated enum ActionError: Error, Sendable {
  /// No container, volume or network of the app is on the device (503).
  case appNotInCurrentState(Int)
  /// The app has no container (400 on v1, 404 on v2).
  case appNotFound
  /// No service of the app is meant (400 on v1, 404 on v2).
  case serviceNotFound
  /// The target has no such service (404).
  case serviceNotInTarget
  /// Update locks are in the way (423), or could not be made (503); see `isLock`.
  case locks(UpdateLockError)
  /// An update of the host is not complete (423).
  case hostUpdatePending
  /// The engine's answer to a single-service action; a `statusCode` of 404 or 400 is passed on.
  case engine(EngineError)
  case failed(String)
  /// The caller's task was cancelled before the end. What was begun is put right by the loop.
  case cancelled

  /// The answer is 423.
  public var isLock: Bool {
    switch self {
    case .hostUpdatePending: true
    case .locks(let error): error.isConflict
    default: false
    }
  }

  init(_ error: StepError) {
    self =
      switch error {
      case .engine(let error): .engine(error)
      case .lock(let error): .locks(error)
      case .cancelled: .cancelled
      default: .failed(error.description)
      }
  }
}

nonisolated extension ActionError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .appNotInCurrentState(let appId): "Application with ID \(appId) is not in the current state"
    case .appNotFound:
      "App not found: an app needs to be installed for this endpoint to work.\n\tIf you've recently moved this device from another app,\n\tplease push an app and wait for it to be installed first."
    case .serviceNotFound: "Service not found, a container must exist for this endpoint to work"
    case .serviceNotInTarget: "Service does not exist in target release"
    case .locks(let error): error.description
    case .hostUpdatePending: UpdateLockError.hostUpdatePending.description
    case .engine(let error): error.message
    case .failed(let text): text
    case .cancelled: "request for lock canceled"
    }
  }
}
