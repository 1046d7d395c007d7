import EventLoop
import Glibc

// Update locks: a service that must not be interrupted makes a file, and the agent then leaves
// the whole app alone (state-engine 5, http-api 8).
//
// The files lie on the host at `<host>/tmp/balena-supervisor/services/<appId>/<service>/`, which
// the service sees as `/tmp/balena` and `/tmp/resin`. There are two names, and a lock counts as
// a file, a directory or a link that leads nowhere. The agent's own locks are files of owner
// 65534; after a crash they are recognised by that and adopted or deleted.
//
// There are two kinds of holders inside the agent. The state engine takes an app's locks with
// `take` and holds them over many steps until the app has settled. An action of the API holds
// them for the time of a closure with `withLocks`. A mutex for each app keeps them apart.
//
// An app can be long on its way without a step: a pull fails, a dependency is not healthy. An
// action that comes then borrows the locks: the files stay, the state engine holds them no more,
// and asks again for what it needs.

/// Takes and releases the update locks of all services of an app at once.
public final class UpdateLocks {
  /// How long an action of the API waits for another operation of the agent.
  public nonisolated static let actionTimeout: Duration = .seconds(10)

  /// By app id: services whose locks the state engine holds.
  public private(set) var held: [Int: Set<String>] = [:]
  /// Apps with locks of the agent on disk that nobody holds: left by a crash. Looked for once,
  /// at start; from then on every operation keeps it right.
  public private(set) var leftovers: Set<Int> = []

  /// Whether the state engine merely holds an app's locks: nothing is under way that needs them.
  /// Whoever answers calls `restMayHaveBegun` when the answer may have become true.
  public var isAtRest: (_ appId: Int) -> Bool = { _ in false }
  /// Of actions that wait for that.
  private var borrowers: [WakeSignal] = []

  private let base: String
  private let owner: UInt32
  private var mutexes: [Int: FairMutex] = [:]

  /// - Parameters:
  ///   - hostRoot: prefix of host paths, such as `/mnt/root`.
  ///   - owner: the user that marks a lock as the agent's.
  public init(hostRoot: String, owner: UInt32 = 65534) {
    let root = hostRoot == "/" ? "" : hostRoot
    base = root + "/tmp/balena-supervisor/services"
    self.owner = owner
    leftovers = Set(LockDirectory.apps(base: base).filter { hasOwnLocks($0) })
  }

  /// Apps that have a directory for locks, whether or not they are still there.
  var apps: [Int] { LockDirectory.apps(base: base) }

  // MARK: - The state engine

  /// Takes the locks of these services and keeps them until `release`. What the engine holds
  /// already stays held and is added to.
  ///
  /// - Parameter force: deletes the locks of users.
  /// - Throws: `conflict`, after which no lock of the app is held.
  public func take(appId: Int, services: [String], force: Bool) async throws(UpdateLockError) {
    if held[appId] == nil { try await enter(appId, timeout: nil) }
    do {
      try takeFiles(appId: appId, services: services, force: force)
    } catch {
      held[appId] = nil
      leave(appId)
      restMayHaveBegun()
      throw error
    }
    held[appId, default: []].formUnion(services)
  }

  /// Deletes the locks that the engine holds and those that an earlier life left.
  public func release(appId: Int) {
    if held.removeValue(forKey: appId) != nil {
      deleteOwnLocks(appId)
      leave(appId)
      restMayHaveBegun()
    } else if mutexes[appId] == nil {
      deleteOwnLocks(appId)
    }
  }

  /// Deletes all locks of the agent, whoever holds them; for the end of the process.
  public func deleteAll() {
    for appId in Set(mutexes.keys).union(leftovers) { deleteOwnLocks(appId) }
  }

  // MARK: - Actions

  /// Runs an action while the locks of these apps are held: of every service that has a
  /// directory, so that those of former services count too.
  ///
  /// - Throws: `busy` when another operation holds an app's locks for ten seconds; `conflict`.
  ///   The action is not run then, and no lock is left.
  public func withLocks<Result>(
    _ appIds: [Int], force: Bool, _ action: () async throws -> Result
  ) async throws -> Result {
    let deadline = MonotonicTime.read() + UpdateLocks.actionTimeout
    var entered: [Int] = []
    defer {
      for appId in entered.reversed() {
        deleteOwnLocks(appId)
        leave(appId)
      }
    }
    // In one order for all, so that two actions cannot wait for each other.
    for appId in Set(appIds).sorted() {
      await borrow(appId, until: deadline)
      try await enter(appId, timeout: deadline - MonotonicTime.read())
      entered.append(appId)
      try takeFiles(appId: appId, services: LockDirectory.services(base: base, appId: appId), force: force)
    }
    return try await action()
  }

  /// Lets actions that wait for the locks of an app look whether the state engine still needs them.
  public func restMayHaveBegun() {
    for borrower in borrowers { borrower.set() }
  }

  /// Waits until the state engine needs an app's locks no more, and takes them from it.
  private func borrow(_ appId: Int, until deadline: MonotonicTime) async {
    guard held[appId] != nil else { return }
    let signal = WakeSignal()
    borrowers.append(signal)
    let timer = EventLoop.shared.schedule(after: deadline - MonotonicTime.read()) { signal.set() }
    defer {
      timer.cancel()
      borrowers.removeAll { $0 === signal }
    }
    while held[appId] != nil {
      if isAtRest(appId) {
        held[appId] = nil
        // Until the action has adopted the files they are nobody's.
        leftovers.insert(appId)
        return leave(appId)
      }
      guard MonotonicTime.read() < deadline, !Task.isCancelled else { return }
      await withTaskCancellationHandler {
        await signal.wait()
      } onCancel: {
        Task { @MainActor in signal.set() }
      }
    }
  }

  // MARK: - The agent's own order

  private func enter(_ appId: Int, timeout: Duration?) async throws(UpdateLockError) {
    let mutex = mutexes[appId] ?? FairMutex()
    mutexes[appId] = mutex
    switch await mutex.enter(timeout: timeout) {
    case .entered: return
    case .timedOut: throw .busy(appId: appId)
    case .cancelled:
      if mutex.isIdle { mutexes[appId] = nil }
      throw .cancelled
    }
  }

  private func leave(_ appId: Int) {
    guard let mutex = mutexes[appId] else { return }
    mutex.leave()
    if mutex.isIdle { mutexes[appId] = nil }
  }

  // MARK: - Files

  /// All or none: a conflict takes back what was taken and what was adopted.
  private func takeFiles(appId: Int, services: [String], force: Bool) throws(UpdateLockError) {
    do {
      for service in services { try takeFiles(appId: appId, service: service, force: force) }
      leftovers.remove(appId)
    } catch {
      deleteOwnLocks(appId)
      throw error
    }
  }

  private func takeFiles(appId: Int, service: String, force: Bool) throws(UpdateLockError) {
    guard let directory = try LockDirectory.open(base: base, appId: appId, service: service, create: true)
    else { return }
    try directory.openForAll()
    for name in LockDirectory.lockNames {
      if directory.content(of: name, owner: owner) == .ours { continue }
      if force { directory.delete(name) }
      if try directory.create(name, owner: owner) == .created { continue }
      throw conflict(directory, name, appId: appId, service: service)
    }
  }

  private func conflict(
    _ directory: borrowing LockDirectory, _ name: String, appId: Int, service: String
  ) -> UpdateLockError {
    var lock = LockConflict(
      appId: appId, service: service, path: "\(directory.path)/\(name)", kind: .other, ownerUid: 0,
      since: Timestamp(seconds: 0))
    // Gone again in the meantime: it stood in the way all the same.
    if case .foreign(let kind, let uid, let since) = directory.content(of: name, owner: owner) {
      lock.kind = kind
      lock.ownerUid = uid
      lock.since = since
    }
    return .conflict(lock)
  }

  /// Deletes the agent's locks of an app; those of users stay.
  private func deleteOwnLocks(_ appId: Int) {
    for service in LockDirectory.services(base: base, appId: appId) {
      guard let directory = try? LockDirectory.open(base: base, appId: appId, service: service, create: false)
      else { continue }
      for name in LockDirectory.lockNames where directory.content(of: name, owner: owner) == .ours {
        directory.delete(name)
      }
    }
    leftovers.remove(appId)
  }

  private func hasOwnLocks(_ appId: Int) -> Bool {
    LockDirectory.services(base: base, appId: appId).contains { service in
      guard let directory = try? LockDirectory.open(base: base, appId: appId, service: service, create: false)
      else { return false }
      return LockDirectory.lockNames.contains { directory.content(of: $0, owner: owner) == .ours }
    }
  }
}
