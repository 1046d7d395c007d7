/// Why update locks were not taken.
public nonisolated enum UpdateLockError: Error, Sendable, Hashable {
  /// Someone else's lock is in the way (HTTP 423).
  case conflict(LockConflict)
  /// Another operation of the agent holds the app's locks (HTTP 423).
  case busy(appId: Int)
  /// An update of the host is not complete: a reboot now would undo it (HTTP 423).
  case hostUpdatePending
  /// The files could not be made; `code` is an errno.
  case failure(code: Int32, detail: String)
  case cancelled
}

/// A user's lock: where it is, who made it and when, as far as the file system knows.
public nonisolated struct LockConflict: Sendable, Hashable {
  public enum Kind: String, Sendable { case file, directory, symlink, other }

  public var appId: Int
  public var service: String
  /// On the host, as the agent sees it.
  public var path: String
  public var kind: Kind
  public var ownerUid: UInt32
  /// Last change of the lock, in wall-clock time.
  public var since: Timestamp
}

nonisolated extension UpdateLockError {
  /// Someone holds the locks; otherwise they could not be made.
  public var isConflict: Bool {
    switch self {
    case .conflict, .busy, .hostUpdatePending: true
    case .failure, .cancelled: false
    }
  }
}

nonisolated extension UpdateLockError: CustomStringConvertible {
  /// The text that users and the API see (http-api 8.3 and 8.4).
  public var description: String {
    switch self {
    case .conflict(let lock): "Lockfile exists for { appId: \(lock.appId), service: \(lock.service) }"
    case .busy(let appId): "Locks for app \(appId) are being held by another supervisor operation"
    case .hostUpdatePending: "Waiting for Host OS update to finish"
    case .failure(let code, let detail): "Got code \(code) while trying to take lock: \(detail)"
    case .cancelled: "request for lock canceled"
    }
  }
}
