import EventLoop
public import Logging

/// The service manager's units over D-Bus (org.freedesktop.systemd1(5), host 6).
///
/// A job is followed to its end by the signal `JobRemoved`: the manager is asked for signals
/// (`Subscribe`) and the match is made before the job is queued, so no end can be missed. While no
/// job is under way there is no match, and nothing wakes the process.
public final class SystemdManager {
  public nonisolated enum Verb: String, Sendable, Hashable {
    case start = "StartUnit"
    case stop = "StopUnit"
    case restart = "RestartUnit"
  }

  /// How a job ended.
  public nonisolated enum Outcome: Sendable, Hashable {
    /// Done, or nothing was to be done.
    case done
    /// The host has no such unit.
    case unitMissing
    /// `failed`, `timeout`, `canceled`, `dependency`, …, as the manager calls it.
    case failed(result: String)
    /// Still under way after `jobTimeout`; with the unit's state then.
    case unfinished(activeState: String)
  }

  /// How long the end of a job is waited for.
  public static let jobTimeout = Duration.seconds(90)
  /// Between two tries while another job of the unit is queued that this one would undo.
  private static let conflictDelay = Duration.seconds(1)
  private static let conflictTries = 10

  private static let service = "org.freedesktop.systemd1"
  private static let path = "/org/freedesktop/systemd1"
  private static let manager = "org.freedesktop.systemd1.Manager"
  private static let unit = "org.freedesktop.systemd1.Unit"

  private let bus: SystemBus
  private let logger: Logger
  private var jobs: [ObjectIdentifier: Job] = [:]
  private var jobSignals: SystemBus.Subscription?
  /// Ends of jobs whose caller does not know their path yet.
  private var earlyEnds: [String: String] = [:]

  public init(bus: SystemBus, logger: Logger) {
    self.bus = bus
    self.logger = logger
  }

  // MARK: State

  /// `ActiveState` of a unit: `active`, `inactive`, `failed`, …; nil when the host has no such unit.
  public func activeState(of name: String) async throws(BusError) -> String? {
    guard let path = try await unitPath(name) else { return nil }
    return try await bus.property(Self.service, path, Self.unit, "ActiveState").text
  }

  /// The units that a unit is part of; nil when the host has no such unit.
  public func partOf(_ name: String) async throws(BusError) -> [String]? {
    guard let path = try await unitPath(name) else { return nil }
    return try await bus.property(Self.service, path, Self.unit, "PartOf").items?.compactMap(\.text) ?? []
  }

  /// `What` of a mount unit, such as `/dev/mmcblk0p1`; nil when nothing is mounted by it.
  public func mountedDevice(_ mountUnit: String) async throws(BusError) -> String? {
    guard let path = try await unitPath(mountUnit) else { return nil }
    let what = try await bus.property(Self.service, path, "org.freedesktop.systemd1.Mount", "What").text
    return what.flatMap { $0.hasPrefix("/dev/") ? $0 : nil }
  }

  /// Object path of a unit. One that is not in memory is loaded; nil when there is no file of it.
  public func unitPath(_ name: String) async throws(BusError) -> String? {
    do throws(BusError) {
      return try await call("GetUnit", [.string(name)]).first?.text
    } catch {
      guard error.isRemote("org.freedesktop.systemd1.NoSuchUnit") else { throw error }
    }
    do throws(BusError) {
      guard let path = try await call("LoadUnit", [.string(name)]).first?.text else { return nil }
      let state = try await bus.property(Self.service, path, Self.unit, "LoadState").text
      return state == "not-found" ? nil : path
    } catch {
      if error.isRemote("org.freedesktop.systemd1.NoSuchUnit") { return nil }
      throw error
    }
  }

  private func call(
    _ member: String, _ arguments: [BusValue] = [], timeout: Duration = SystemBus.callTimeout
  ) async throws(BusError) -> [BusValue] {
    try await bus.call(Self.service, Self.path, Self.manager, member, arguments, timeout: timeout)
  }

  // MARK: Unit files

  /// What became of units that are to start with the host.
  public nonisolated enum Enabling: Sendable, Hashable {
    /// They do now; how many links that took: none when they did before.
    case enabled(links: Int)
    /// Their files do not say what would start them (no section `Install`).
    case notInstallable
    /// The host does not have one of them; none was enabled.
    case unitMissing
    /// Masked, made by a generator, …, as the manager says it.
    case refused(String)
  }

  /// Answers of `EnableUnitFiles` that say that a file is not there.
  private static let missingFile = [
    "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound",
    "System.Error.ENOENT",
  ]
  private static let unusableFile = [
    "org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.UnitGenerated",
    "org.freedesktop.systemd1.UnitLinked", "org.freedesktop.systemd1.UnitExists",
    "org.freedesktop.systemd1.BadUnitSetting", "org.freedesktop.DBus.Error.FileExists",
    "org.freedesktop.DBus.Error.InvalidArgs",
  ]

  /// Has units start with the host (`EnableUnitFiles`); links of others that are in the way stay.
  ///
  /// The manager reads its unit files again when something has changed; no unit is started.
  ///
  /// - Parameters:
  ///   - isForThisBoot: the links go with the next boot.
  ///   - timeout: of each of the two calls.
  public func enable(
    _ names: [String], isForThisBoot: Bool = false, timeout: Duration = SystemBus.callTimeout
  ) async throws(BusError) -> Enabling {
    let arguments: [BusValue] = [.strings(names), .boolean(isForThisBoot), .boolean(false)]
    let answer: [BusValue]
    do throws(BusError) { answer = try await call("EnableUnitFiles", arguments, timeout: timeout) } catch {
      if error.isRemote(anyOf: Self.missingFile) { return .unitMissing }
      if error.isRemote(anyOf: Self.unusableFile) { return .refused(error.message) }
      throw error
    }
    // b carries_install_info, a(sss) changes
    guard answer.count == 2, let isInstallable = answer[0].bool, let links = answer[1].items?.count else {
      throw BusError(.invalid, "EnableUnitFiles: the answer cannot be read")
    }
    if links > 0 { _ = try await call("Reload", timeout: timeout) }
    return isInstallable || links > 0 ? .enabled(links: links) : .notInstallable
  }

  // MARK: Jobs

  public func start(_ name: String) async throws(BusError) -> Outcome { try await run(.start, name) }
  public func stop(_ name: String) async throws(BusError) -> Outcome { try await run(.stop, name) }
  public func restart(_ name: String) async throws(BusError) -> Outcome { try await run(.restart, name) }

  /// Queues a job and does not wait for its end.
  ///
  /// - Returns: false when the host has no such unit.
  public func queue(_ verb: Verb, _ name: String) async throws(BusError) -> Bool {
    try await enqueue(verb, name) != nil
  }

  /// Queues a job in mode `fail` and waits for its end.
  public func run(
    _ verb: Verb, _ name: String, timeout: Duration = SystemdManager.jobTimeout
  ) async throws(BusError) -> Outcome {
    let job = Job()
    jobs[ObjectIdentifier(job)] = job
    defer {
      jobs[ObjectIdentifier(job)] = nil
      if jobs.isEmpty { stopListening() }
    }
    listen()
    // In the order of the wire, the match is in place before the job is queued.
    try await subscribe()
    guard let path = try await enqueue(verb, name) else { return .unitMissing }
    job.path = path
    let result: String?
    if let early = earlyEnds.removeValue(forKey: path) {
      result = early
    } else {
      result = await job.end(within: timeout)
    }
    switch result {
    case "done", "skipped": return .done
    case nil:
      return .unfinished(activeState: try await activeState(of: name) ?? "unknown")
    case let result?: return .failed(result: result)
    }
  }

  /// Without it the manager sends no signals to anyone. It counts by connection, and asking twice
  /// is an error that does not matter.
  private func subscribe() async throws(BusError) {
    do throws(BusError) { _ = try await call("Subscribe") } catch {
      guard error.isRemote("org.freedesktop.systemd1.AlreadySubscribed") else { throw error }
    }
  }

  private func enqueue(_ verb: Verb, _ name: String) async throws(BusError) -> String? {
    var tries = 0
    while true {
      do throws(BusError) {
        return try await call(verb.rawValue, [.string(name), .string("fail")]).first?.text
      } catch {
        if error.isRemote(
          "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.LoadFailed",
          "org.freedesktop.DBus.Error.FileNotFound")
        {
          return nil
        }
        tries += 1
        guard error.isRemote("org.freedesktop.systemd1.TransactionIsDestructive"), tries < Self.conflictTries
        else { throw error }
      }
      do throws(CancellationError) { try await EventLoop.shared.sleep(for: Self.conflictDelay) } catch {
        throw BusError(.timeout, "\(verb.rawValue) \(name) was given up")
      }
    }
  }

  private func listen() {
    guard jobSignals == nil else { return }
    jobSignals = bus.subscribe(
      "type='signal',sender='\(Self.service)',path='\(Self.path)',interface='\(Self.manager)',member='JobRemoved'",
      reconnected: { [weak self] in self?.endAll() }
    ) { [weak self] values in
      // u id, o job, s unit, s result
      guard let self, values.count == 4, let path = values[1].text, let result = values[3].text else {
        return
      }
      noteEnd(of: path, result)
    }
  }

  private func stopListening() {
    jobSignals?.cancel()
    jobSignals = nil
    earlyEnds = [:]
  }

  private func noteEnd(of path: String, _ result: String) {
    if let job = jobs.values.first(where: { $0.path == path }) {
      job.finish(result)
    } else if jobs.values.contains(where: { $0.path == nil }) {
      earlyEnds[path] = result
    }
  }

  /// Signals were missed; who waits looks at the unit's state instead.
  private func endAll() {
    for job in jobs.values where job.path != nil { job.finish(nil) }
  }

  private final class Job {
    var path: String?
    private var continuation: CheckedContinuation<String?, Never>?
    private var timer: LoopTimer?
    private var isOver = false
    private var result: String?

    /// nil when the time is up.
    func end(within timeout: Duration) async -> String? {
      if isOver { return result }
      return await withCheckedContinuation { continuation in
        self.continuation = continuation
        timer = EventLoop.shared.schedule(after: timeout) { [weak self] in self?.finish(nil) }
      }
    }

    func finish(_ result: String?) {
      guard !isOver else { return }
      isOver = true
      self.result = result
      timer?.cancel()
      continuation.take()?.resume(returning: result)
    }
  }

  // MARK: Power

  /// Without logind the manager itself is told; it does not ask for inhibitors.
  func reboot() async throws(BusError) { _ = try await call("Reboot") }
  func powerOff() async throws(BusError) { _ = try await call("PowerOff") }
}
