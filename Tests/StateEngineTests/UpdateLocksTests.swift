import EventLoop
import Glibc
import TestSupport
import Testing

@testable import StateEngine

/// Lock files in a real directory, as root (state-engine 5, http-api 8).
@Suite(.serialized)
struct UpdateLocksTests {
  /// A host root of its own, deleted at the end.
  private final class Host {
    let root: String

    init() {
      var template = Array("/tmp/update-locks.XXXXXX".utf8CString)
      root = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    isolated deinit { remove(root) }

    private func remove(_ path: String) {
      if let directory = opendir(path) {
        while let entry = readdir(directory) {
          let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
          }
          if name == "." || name == ".." { continue }
          let child = path + "/" + name
          var status = stat()
          lstat(child, &status)
          if status.st_mode & S_IFMT == S_IFDIR { remove(child) } else { unlink(child) }
        }
        closedir(directory)
      }
      rmdir(path)
    }

    func directory(_ service: String, app: Int = 1) -> String {
      "\(root)/tmp/balena-supervisor/services/\(app)/\(service)"
    }

    func lock(_ service: String, app: Int = 1, _ name: String = "updates.lock") -> String {
      directory(service, app: app) + "/" + name
    }

    func makeDirectory(_ path: String) {
      var end = path.startIndex
      while end != path.endIndex {
        end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
        mkdir(String(path[..<end]), 0o755)
      }
    }

    func makeFile(_ path: String, owner: uid_t = 0) {
      makeDirectory(String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)]))
      close(open(path, O_CREAT | O_WRONLY, 0o644))
      chown(path, owner, 0)
    }

    func status(_ path: String) -> stat? {
      var status = stat()
      return lstat(path, &status) == 0 ? status : nil
    }

    func exists(_ path: String) -> Bool { status(path) != nil }
  }

  @Test func atTheEndAllLocksOfTheAgentGoAndThoseOfUsersStay() async throws {
    let host = Host()
    host.makeFile(host.lock("left", app: 3), owner: 65534)
    let locks = UpdateLocks(hostRoot: host.root)
    try await locks.take(appId: 1, services: ["one"], force: false)
    host.makeFile(host.lock("two", app: 2, "resin-updates.lock"))
    host.makeFile(host.lock("two", app: 2), owner: 65534)
    #expect(host.exists(host.lock("one")) && host.exists(host.lock("left", app: 3)))
    try? await locks.withLocks([4], force: false) {
      host.makeFile(host.lock("four", app: 4), owner: 65534)
      locks.deleteAll()
      #expect(!host.exists(host.lock("four", app: 4)))
    }
    #expect(!host.exists(host.lock("one")) && !host.exists(host.lock("left", app: 3)))
    #expect(host.exists(host.lock("two", app: 2, "resin-updates.lock")))
  }

  private func take(
    _ locks: UpdateLocks, app: Int = 1, _ services: [String], force: Bool = false
  ) async -> UpdateLockError? {
    do throws(UpdateLockError) {
      try await locks.take(appId: app, services: services, force: force)
      return nil
    } catch { return error }
  }

  @Test func takingMakesBothFilesOfEveryServiceAsTheChapterSays() async {
    LoopDriver.start()
    let host = Host()
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a", "b"]) == nil)
    for service in ["a", "b"] {
      for name in ["updates.lock", "resin-updates.lock"] {
        let status = host.status(host.lock(service, name))
        #expect(status?.st_uid == 65534)
        #expect(status.map { $0.st_mode & 0o7777 } == 0o444)
        #expect(status?.st_size == 1)
        #expect(status?.st_nlink == 1)
      }
      #expect(host.status(host.directory(service)).map { $0.st_mode & 0o7777 } == 0o1777)
    }
    #expect(locks.held == [1: ["a", "b"]])
  }

  @Test func releasingDeletesTheFiles() async {
    LoopDriver.start()
    let host = Host()
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a"]) == nil)
    locks.release(appId: 1)
    #expect(!host.exists(host.lock("a")))
    #expect(!host.exists(host.lock("a", "resin-updates.lock")))
    #expect(locks.held.isEmpty)
  }

  @Test(arguments: ["updates.lock", "resin-updates.lock"])
  func aUsersLockOfEitherNameStopsTheAppAndIsNamed(name: String) async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.lock("b", name), owner: 1000)
    let locks = UpdateLocks(hostRoot: host.root)
    let error = await take(locks, ["a", "b"])
    #expect(error?.description == "Lockfile exists for { appId: 1, service: b }")
    guard case .conflict(let conflict) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(conflict.path == host.lock("b", name))
    #expect(conflict.ownerUid == 1000)
    #expect(conflict.kind == .file)
    #expect(Int64(time(nil)) - conflict.since.seconds < 60)
    #expect(!host.exists(host.lock("a")))
    #expect(host.exists(host.lock("b", name)))
    #expect(locks.held.isEmpty)
  }

  @Test func aDanglingLinkAndADirectoryAreLocksAndAreNotFollowed() async {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory(host.directory("a"))
    symlink("\(host.root)/elsewhere", host.lock("a"))
    host.makeDirectory(host.lock("b"))
    let locks = UpdateLocks(hostRoot: host.root)
    guard case .conflict(let link) = await take(locks, ["a"]),
      case .conflict(let directory) = await take(locks, ["b"])
    else {
      Issue.record("no conflict")
      return
    }
    #expect(link.kind == .symlink)
    #expect(directory.kind == .directory)
    #expect(!host.exists("\(host.root)/elsewhere"))
  }

  @Test func forceReplacesFilesLinksAndEmptyDirectories() async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.lock("a"), owner: 1000)
    host.makeDirectory(host.lock("b"))
    host.makeDirectory(host.directory("c"))
    host.makeFile("\(host.root)/precious")
    symlink("\(host.root)/precious", host.lock("c"))
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a", "b", "c"], force: true) == nil)
    #expect(["a", "b", "c"].allSatisfy { host.status(host.lock($0))?.st_uid == 65534 })
    #expect(host.exists("\(host.root)/precious"))
  }

  @Test func forceLeavesADirectoryThatIsNotEmpty() async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.lock("a") + "/content")
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(
      await take(locks, ["a"], force: true)?.description == "Lockfile exists for { appId: 1, service: a }")
    #expect(host.exists(host.lock("a") + "/content"))
  }

  @Test func locksOfAnEarlierLifeAreFoundAtStartAndAdopted() async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.lock("a"), owner: 65534)
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(locks.leftovers == [1])
    #expect(await take(locks, ["a"]) == nil)
    #expect(locks.leftovers.isEmpty)
    locks.release(appId: 1)
    #expect(!host.exists(host.lock("a")))
  }

  @Test func locksOfAnEarlierLifeAreDeletedByARelease() {
    let host = Host()
    host.makeFile(host.lock("a"), owner: 65534)
    host.makeFile(host.lock("b"), owner: 1000)
    let locks = UpdateLocks(hostRoot: host.root)
    locks.release(appId: 1)
    #expect(locks.leftovers.isEmpty)
    #expect(!host.exists(host.lock("a")))
    #expect(host.exists(host.lock("b")))
  }

  @Test func aConflictTakesBackWhatWasAdopted() async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.lock("a"), owner: 65534)
    host.makeFile(host.lock("b"), owner: 1000)
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a", "b"]) != nil)
    #expect(!host.exists(host.lock("a")))
    #expect(locks.leftovers.isEmpty)
  }

  @Test func aDraftLeftByACrashIsReplaced() async {
    LoopDriver.start()
    let host = Host()
    host.makeFile(host.directory("a") + "/.updates.lock.draft", owner: 1000)
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a"]) == nil)
    #expect(!host.exists(host.directory("a") + "/.updates.lock.draft"))
  }

  @Test func aServiceDirectoryThatIsALinkIsNotEntered() async {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory("\(host.root)/elsewhere")
    host.makeDirectory("\(host.root)/tmp/balena-supervisor/services/1")
    symlink("\(host.root)/elsewhere", host.directory("a"))
    let locks = UpdateLocks(hostRoot: host.root)
    let error = await take(locks, ["a"])
    #expect(error?.description.hasPrefix("Got code \(ENOTDIR) while trying to take lock: ") ?? false)
    #expect(!host.exists("\(host.root)/elsewhere/updates.lock"))
  }

  @Test func aNameThatLeavesTheDirectoryIsRefused() async {
    LoopDriver.start()
    let host = Host()
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["../../x"]) == .failure(code: EINVAL, detail: "not a service name: ../../x"))
  }

  // MARK: - Actions

  @Test func anActionHoldsTheLocksOfEveryDirectoryWhileItRuns() async throws {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory(host.directory("a"))
    host.makeDirectory(host.directory("former", app: 2))
    let locks = UpdateLocks(hostRoot: host.root)
    let isLocked = try await locks.withLocks([1, 2, 3], force: false) {
      host.exists(host.lock("a")) && host.exists(host.lock("former", app: 2))
    }
    #expect(isLocked)
    #expect(!host.exists(host.lock("a")))
    #expect(!host.exists(host.lock("former", app: 2)))
  }

  @Test func aUsersLockInOneAppReleasesTheOthersAndTheActionIsNotRun() async {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory(host.directory("a"))
    host.makeFile(host.lock("b", app: 2), owner: 1000)
    let locks = UpdateLocks(hostRoot: host.root)
    var hasRun = false
    await #expect(throws: UpdateLockError.self) {
      try await locks.withLocks([1, 2], force: false) { hasRun = true }
    }
    #expect(!hasRun)
    #expect(!host.exists(host.lock("a")))
    #expect(await take(locks, ["a"]) == nil)
  }

  @Test func locksAreReleasedWhenTheActionFails() async {
    LoopDriver.start()
    struct Failure: Error {}
    let host = Host()
    host.makeDirectory(host.directory("a"))
    let locks = UpdateLocks(hostRoot: host.root)
    await #expect(throws: Failure.self) { try await locks.withLocks([1], force: false) { throw Failure() } }
    #expect(!host.exists(host.lock("a")))
  }

  @Test func anActionBorrowsLocksThatTheEngineMerelyHolds() async throws {
    LoopDriver.start()
    let host = Host()
    let locks = UpdateLocks(hostRoot: host.root)
    var isAtRest = false
    locks.isAtRest = { _ in isAtRest }
    #expect(await take(locks, ["a"]) == nil)
    var hasRun = false
    let action = Task {
      try await locks.withLocks([1], force: false) {
        hasRun = true
        #expect(locks.held[1] == nil)
        return host.exists(host.lock("a"))
      }
    }
    try await EventLoop.shared.sleep(for: .milliseconds(120))
    locks.restMayHaveBegun()
    try await EventLoop.shared.sleep(for: .milliseconds(20))
    #expect(!hasRun && locks.held[1] == ["a"])
    isAtRest = true
    locks.restMayHaveBegun()
    #expect(try await action.value)
    #expect(!host.exists(host.lock("a")))
    #expect(locks.leftovers.isEmpty)
    #expect(await take(locks, ["a"]) == nil)
  }

  @Test func locksThatAUserAddedMeanwhileStopABorrowerAndLeaveNone() async {
    LoopDriver.start()
    let host = Host()
    let locks = UpdateLocks(hostRoot: host.root)
    locks.isAtRest = { _ in true }
    #expect(await take(locks, ["a"]) == nil)
    host.makeFile(host.lock("b"), owner: 1000)
    await #expect(throws: UpdateLockError.self) { try await locks.withLocks([1], force: false) {} }
    #expect(locks.held[1] == nil && locks.leftovers.isEmpty)
    #expect(!host.exists(host.lock("a")))
  }

  @Test func actionsOnOneAppRunInTheOrderTheyCame() async {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory(host.directory("a"))
    let locks = UpdateLocks(hostRoot: host.root)
    var order: [Int] = []
    let actions = (0..<5).map { number in
      Task {
        try await locks.withLocks([1], force: false) {
          await Task.yield()
          order.append(number)
        }
      }
    }
    for action in actions { _ = await action.result }
    #expect(order == [0, 1, 2, 3, 4])
  }

  @Test func aCancelledActionLeavesTheQueueAndTheNextOneRuns() async {
    LoopDriver.start()
    let host = Host()
    host.makeDirectory(host.directory("a"))
    let locks = UpdateLocks(hostRoot: host.root)
    #expect(await take(locks, ["a"]) == nil)
    let cancelled = Task { try await locks.withLocks([1], force: false) {} }
    let waiting = Task { try await locks.withLocks([1], force: false) { true } }
    await Task.yield()
    cancelled.cancel()
    await #expect(throws: UpdateLockError.cancelled) { try await cancelled.value }
    locks.release(appId: 1)
    #expect(await (try? waiting.value) == true)
  }

  @Test func whoWaitsTooLongIsToldWhoHoldsTheLocks() async {
    LoopDriver.start()
    let mutex = FairMutex()
    #expect(await mutex.enter(timeout: nil) == .entered)
    #expect(await mutex.enter(timeout: .milliseconds(5)) == .timedOut)
    mutex.leave()
    #expect(mutex.isIdle)
    #expect(
      UpdateLockError.busy(appId: 7).description
        == "Locks for app 7 are being held by another supervisor operation")
  }
}
