import CSystemd
import Cloud
import Database
import DeviceAPI
import Engine
import EventLoop
import Glibc
import HTTP
import HostConfiguration
import JSON
import Logging
import Logs
import Model
import StateEngine
import SystemBus

/// The agent: builds the parts, starts them in order, and ends the process.
///
/// Order: log, config.json, database, identity, state engine, API. Without a readable config.json
/// or with another agent on the same database there is no start; without an engine there is.
public final class Agent {
  let options: AgentOptions
  let logger: Logger
  let paths: HostPaths
  let facts: HostFacts
  let settings: Settings
  let store: Store
  let engineAddress: String
  let startedAt = MonotonicTime.read()
  private let serviceManager = ServiceManager()
  private var signals: SignalSource?
  private var reporting: LoopTimer?
  private var memoryRelease: LoopTimer?
  private var storeRepair: LoopTimer?
  private(set) var listenPort = 48484
  /// As they were at the start, when the API is bound: a change of config.json counts from the next one on.
  let ports: ListenPorts
  let networkFacts: NetworkFacts
  /// Of the facts that the last change of the network has led to.
  var handledFactsRevision: UInt64 = 0
  let systemMetrics = SystemMetrics()
  var authorization: (readAt: UInt64, isRequired: Bool)?
  let host: Host
  /// The section of config.json that was last said to be malformed.
  var saidMalformedSection: String?

  private(set) var stateEngine: StateEngine?
  private(set) var api: DeviceAPI?
  var cloud: CloudLink?
  /// For the cloud, from the time before there is a link to it.
  var earlyLogRecords: [LogRecord] = []
  var logSource: JournalLogSource?
  var isPreloadTried = false
  let preloadTry = Alarm()
  private var localModeSwitch: LocalModeSwitch?
  var configWatcher: FileWatcher?
  var networkMonitor: NetworkMonitor?
  var vpnWatcher: FileWatcher?
  private var server: Server?

  /// After the last change, before memory is given back.
  private static let quietTime = Duration.seconds(5)
  /// Writes to the boot partition are waited for this long at the end.
  private static let longestEnd = Duration.seconds(5)
  /// Exit statuses: 143 and 130 as a shell would report the signals.
  private static let failureStatus: Int32 = 1

  /// Runs the agent until it is told to end.
  public nonisolated static func main(_ options: AgentOptions) -> Never {
    EventLoop.main { await run(options) }
  }

  private static func run(_ options: AgentOptions) async -> Int32 {
    signal(SIGPIPE, SIG_IGN)
    raiseDescriptorLimit()
    let environment = processEnvironment()
    let levelName = options.level(environment)
    guard let level = Logger.Level(rawValue: levelName) else {
      printError("unknown log level '\(levelName)': use trace, debug, info, notice, warning or error")
      return failureStatus
    }
    LogDestination.detect().bootstrap(level: level)
    let logger = Logger(label: "supervisor")
    do {
      try await mountPartitions(options, environment, logger)
      let agent = try await Agent(options: options, environment: environment, logger: logger)
      try await agent.start(environment: environment)
      let status = await agent.waitForEnd()
      await agent.finishWork()
      return status
    } catch {
      logger.critical("\(error)")
      return failureStatus
    }
  }

  /// Before anything is looked for: the places of the partitions decide where the agent's files are.
  private static func mountPartitions(
    _ options: AgentOptions, _ environment: [String: String], _ logger: Logger
  ) async throws(FileError) {
    let paths = HostPaths(options.paths, environment: environment)
    let isTest = HostPaths.value(of: "TEST", in: environment) == "1"
    let mounts = PartitionMounts(hostRoot: paths.hostRoot, isTest: isTest, logger: logger) { partition in
      options.paths.isChosen(partition, environment)
    }
    guard !mounts.isEmpty else { return }
    let bus = SystemBus(address: options.dbusAddress ?? paths.systemBusAddress, logger: logger)
    defer { bus.close() }
    let systemd = SystemdManager(bus: bus, logger: logger)
    try await mounts.make { unit in
      do throws(BusError) { return try await systemd.mountedDevice(unit) } catch {
        logger.debug("\(unit): \(error.message)")
        return nil
      }
    }
  }

  /// The soft limit is for programs that use select(2); we have a thousand clients and more.
  private static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 8192)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  private init(
    options: AgentOptions, environment: [String: String], logger: Logger
  ) async throws(StartFailure) {
    self.options = options
    self.logger = logger
    paths = HostPaths(options.paths, environment: environment)
    networkFacts = NetworkFacts(interfaces: paths.networkInterfaces)
    engineAddress = options.engineAddress(environment)
    logger.notice("Supervisor v\(AgentVersion.text) starting up...")
    paths.linkFormerRuntime()
    facts = HostFacts(paths: paths, logger: logger)
    // The last good copy of config.json stands beside the database; where the directory cannot be
    // made, opening the database says so.
    try? DurableFile.makeDirectories(for: paths.database)
    let file: ConfigFile
    do throws(ConfigFileError) { file = try await ConfigFile(paths: paths, logger: logger) } catch {
      throw StartFailure(text: error.message)
    }
    do throws(DatabaseError) {
      store = try Store.open(at: paths.database, whenUnwritable: .runFromMemory, logger: logger)
    } catch {
      throw StartFailure(text: "cannot open the database \(paths.database): \(error)")
    }
    settings = Settings(file: file, store: store, logger: logger)
    ports = settings.listenPorts
    host = Host(
      paths: paths, facts: facts, settings: settings, store: store, ports: ports,
      busAddress: options.dbusAddress ?? paths.systemBusAddress)
    do throws(SettingError) {
      try await settings.generateIdentity()
      if settings.isUnmanaged, !settings.bool(.localMode) { try settings.setRows([.localMode: true]) }
    } catch {
      logger.error("Cannot store the device's identity: \(error.description)")
    }
  }

  private func start(environment: [String: String]) async throws(StartFailure) {
    guard let endpoint = EngineEndpoint(engineAddress) else {
      throw StartFailure(
        text: "the engine's address '\(engineAddress)' is neither unix:///path nor tcp://host:port")
    }
    let sockets = try listenSockets(environment)
    let client = EngineClient(endpoint)
    let stateEngine = StateEngine(
      engine: client, store: store, locks: UpdateLocks(hostRoot: paths.hostRoot),
      host: self, logger: Logger(label: "state-engine"))
    let api = DeviceAPI(engine: stateEngine, client: client, host: self, logger: Logger(label: "api"))
    stateEngine.ownContainer = OwnContainer.id
    self.stateEngine = stateEngine
    self.api = api
    // With an address of its own the agent is a guest on the host.
    host.start(stateEngine, ownsHost: options.listenAddress(environment) == nil) {
      [unowned self] event, text in report(event, text)
    }
    // On all addresses the API listens behind the rules, and not before them.
    await host.firewallStands()

    var configuration = Server.Configuration()
    configuration.idleTimeout = .milliseconds(Int64(settings.int(.apiTimeout)))
    let server = Server(configuration: configuration, pipeline: api.pipeline)
    do throws(ListenError) {
      for socket in sockets { try server.listen(on: socket) }
    } catch {
      throw StartFailure(text: "\(error). Is another agent running? Choose another address with --listen.")
    }
    self.server = server
    logger.notice("Listening on \(sockets.map(\.description).joined(separator: ", "))")

    api.serverCounters = { server.counters }
    api.busCalls = { [host] in host.busCallCount }
    api.logCounters = { [unowned self] in
      let counters = cloud?.logs.counters ?? (sent: 0, dropped: 0)
      return LogCounters(sent: counters.sent, dropped: counters.dropped)
    }
    settings.onChange(of: [.localMode, .apiEndpoint]) { [unowned self] _ in forgetAuthorization() }
    stateEngine.onChange = { [unowned self] in
      api.noteChange()
      cloud?.stateChanged()
      logSource?.noteContainers()
      reportLater()
    }
    stateEngine.onShutdown = { [unowned self] isShuttingDown in
      if isShuttingDown { server.suspend() } else { resume(server) }
    }
    do throws(DatabaseError) { _ = try store.keys.globalKey() } catch {
      logger.error("Cannot make the API's global key: \(error.message)")
    }
    holdForBackup()
    let localModeSwitch = LocalModeSwitch(
      engine: client, stateEngine: stateEngine, settings: settings, store: store, logger: logger)
    self.localModeSwitch = localModeSwitch
    localModeSwitch.start()
    startCloud(environment: environment, engine: client)
    stateEngine.start()
    repairStoreLater()
    Task { await loadPreload() }
    serviceManager.startWatchdog { [unowned self] in isHealthy }
    serviceManager.notifyReady()
    reportLater()
  }

  /// The device did not go down: the API comes back, as soon as its address is free again.
  private func resume(_ server: Server) {
    do throws(ListenError) {
      try server.resume()
      logger.notice("The device did not go down; listening again")
    } catch {
      logger.error("\(error)")
      _ = EventLoop.shared.schedule(after: .seconds(1), tolerance: .milliseconds(500)) { [weak self] in
        self?.resume(server)
      }
    }
  }

  private func listenSockets(_ environment: [String: String]) throws(StartFailure) -> [ListenSocket] {
    let passed = ListenSocket.passedBySystemd()
    if !passed.isEmpty { return passed }
    guard let text = options.listenAddress(environment) else {
      listenPort = ports.effective
      guard let port = UInt16(exactly: listenPort) else {
        throw StartFailure(text: "listenPort \(listenPort) in \(paths.config) is not a port")
      }
      // A sibling has the port that others know, on all addresses, and passes on what comes (host 8).
      return ports.overriding != nil
        ? [.tcpFree(host: SupervisorNetwork.gatewayAddress, port: port)] : [.tcp(host: nil, port: port)]
    }
    guard let socket = ListenSocket(text) else {
      throw StartFailure(
        text: "cannot listen on '\(text)': give address:port, [address]:port, :port or unix:///path")
    }
    if case .tcp(_, let port) = socket { listenPort = Int(port) }
    return [socket]
  }

  /// A database that could not be written at the start is tried again until it can.
  private func repairStoreLater() {
    guard store.volatileReason != nil else { return }
    storeRepair = EventLoop.shared.schedule(
      after: Store.durabilityInterval, tolerance: .seconds(5)
    ) { [unowned self] in
      do throws(DatabaseError) { try store.becomeDurable() } catch {
        logger.debug("The database still cannot be written: \(error)")
      }
      repairStoreLater()
    }
  }

  // MARK: Status

  /// Changes come in bursts; the service manager hears of them at most once a second.
  private func reportLater() {
    guard reporting?.isScheduled != true else { return }
    reporting = EventLoop.shared.schedule(after: .seconds(1), tolerance: .milliseconds(200)) {
      [unowned self] in
      serviceManager.notify(status: statusText)
      if stateEngine?.isApplying == false { releaseMemoryLater() }
    }
  }

  /// Some time after the last change, in one wake-up.
  private func releaseMemoryLater() {
    if let memoryRelease { return memoryRelease.restart(after: Self.quietTime) }
    memoryRelease = EventLoop.shared.schedule(after: Self.quietTime, tolerance: .seconds(1)) {
      ResidentMemory.release()
    }
  }

  private var statusText: String {
    guard let stateEngine else { return "Starting" }
    if let problem = stateEngine.engineProblem { return "Waiting for the engine: \(problem)" }
    let running = stateEngine.currentApps.flatMap(\.services).count { $0.container?.status == .running }
    let waiting = stateEngine.plan.apps.values.flatMap(\.waiting).first.map { ", waiting for \($0.cause)" }
    let fault = stateEngine.images.faults.min { $0.key < $1.key }.map {
      "; image \($0.key): \($0.value.kind.rawValue)"
    }
    return stateEngine.isApplying
      ? "Applying the target state: \(running) services running\(waiting ?? "")\(fault ?? "")"
      : "Target state applied: \(running) services running"
  }

  // MARK: End

  /// What must not be cut off half-way; every reader finishes it, but until then the boot partition has leftovers.
  private func finishWork() async {
    server?.suspend()
    stateEngine?.end()
    let deadline = MonotonicTime.read() + Self.longestEnd
    while BootFile.writesUnderWay > 0 || settings.isWriting, MonotonicTime.read() < deadline {
      try? await EventLoop.shared.sleep(for: .milliseconds(2))
    }
    if BootFile.writesUnderWay > 0 || settings.isWriting {
      logger.warning("A write to the boot partition has not ended; ending anyway")
    }
    stateEngine?.releaseLocks()
  }

  private func waitForEnd() async -> Int32 {
    await withCheckedContinuation { continuation in
      var isOver = false
      do throws(SystemError) {
        signals = try SignalSource([SIGTERM, SIGINT]) { [logger, serviceManager, host, logSource] number in
          guard !isOver else { return }
          isOver = true
          logger.notice("Received \(number == SIGTERM ? "SIGTERM" : "SIGINT"). Exiting.")
          serviceManager.notifyStopping()
          logSource?.save()
          host.stop()
          continuation.resume(returning: 128 + number)
        }
      } catch {
        logger.error("Cannot listen to signals: \(error)")
      }
    }
  }
}

/// Why the agent cannot start; one line that names the file or address and what to do.
struct StartFailure: Error, CustomStringConvertible {
  let text: String
  var description: String { text }
}

/// One line on standard error, for a person.
func printError(_ text: String) {
  var bytes = Array("balena-supervisor: \(text)\n".utf8)
  _ = write(STDERR_FILENO, &bytes, bytes.count)
}
