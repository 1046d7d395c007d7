public import Database
import EventLoop
public import HTTPClient
public import HostConfiguration
import JSON
public import Logging

/// The device's link to its cloud: provisioning, then polling, reports, tags and logs, each a task of its
/// own (cloud 0.4, 1.6).
///
/// Endpoint, uuid, keys and the provisioning key come from config.json; when one of them changes under
/// the running agent (a join, a leave), all tasks end and the link begins anew.
public final class CloudLink {
  public let logs: LogStream
  public let connectivity: ConnectivityCheck

  private let client: CloudClient
  private let store: Store
  private unowned let host: any CloudHost
  private let logger: Logger
  private let poller: TargetPoller
  private let reporter: StateReporter
  private let tagReporter: TagReporter
  private let provisioner: Provisioner
  private var tasks: [Task<Void, Never>] = []
  private var identity: [String] = []
  private var settling: LoopTimer?
  private var lastContact: MonotonicTime?
  private var isFirstContact = false
  private var isChanging = false

  public init(
    settings: Settings, store: Store, http: HTTPClient, host: any CloudHost, logger: Logger,
    userAgent: @escaping () -> String
  ) {
    client = CloudClient(settings: settings, http: http, logger: logger, userAgent: userAgent)
    self.store = store
    self.host = host
    self.logger = logger
    poller = TargetPoller(client, store: store, host: host, logger: logger)
    reporter = StateReporter(client, host: host, logger: logger)
    tagReporter = TagReporter(client, store: store, logger: logger)
    provisioner = Provisioner(client, host: host, logger: logger)
    logs = LogStream(client, http: http, logger: logger)
    connectivity = ConnectivityCheck(settings: settings, http: http, logger: logger)
    client.furtherKeys = {
      do throws(DatabaseError) { return [try store.keys.globalKey()] } catch { return [] }
    }
    client.onAnswer = { [unowned self] in connectivity.confirm() }
    client.onNoAnswer = { [unowned self] in connectivity.suspect() }
    provisioner.onNewIdentity = { [unowned self] in
      identity = currentIdentity
      // The change is our own: the cloud is not asked sooner for it.
      settling?.cancel()
    }
    poller.beforeDelivery = { [unowned self] config in firstContact(target: config) }
    poller.isWholeWanted = { [unowned self] in isFirstContactDue }
    poller.onContact = { [unowned self] in lastContact = .read() }
    reporter.onContact = { [unowned self] in lastContact = .read() }
  }

  /// Begins, and follows changes of config.json from now on.
  public func start() {
    isChanging = true
    Task.immediate {
      await begin()
      isChanging = false
    }
    connectivity.start()
    client.settings.onChange(of: [.apiEndpoint, .uuid, .deviceApiKey, .apiKey, .registeredAt, .deviceId]) {
      [unowned self] _ in settingsChanged()
    }
    client.settings.onChange(of: [.localMode]) { [unowned self] change in
      if change[.localMode]?.boolValue == false { poller.forgetTag() }
      reporter.changed()
    }
    client.settings.onChange(of: [.loggingEnabled, .localMode]) { [unowned self] _ in logs.settingsChanged() }
  }

  // MARK: For the device's API and the state engine

  /// `POST /v1/update`: fetches in the background and applies what there is.
  public func update(force: Bool, cancel: Bool) {
    guard !client.settings.isUnmanaged else { return }
    poller.update(force: force, cancel: cancel)
  }

  /// Something that is reported may have changed.
  public func stateChanged() { reporter.changed() }

  public func tags() async throws(CloudFailure) -> [CloudTag] { try await tagReporter.read() }

  public func setTags(_ tags: [String: String]) throws(SettingError) { try tagReporter.set(tags) }

  /// What is stored is not the cloud's target any more.
  public func targetReplaced() { poller.forgetTag() }

  /// The apps that came with the device are its target. A pin that they want is set before the next poll.
  public func preloadIsTaken() {
    if isPolling, provisioner.hasPin { restart("The device is to be pinned") }
  }

  /// Time since the cloud last answered; nil when it never has.
  public var timeSinceContact: Duration? { lastContact.map { .read() - $0 } }

  /// Nothing of the link hangs. The network does not count.
  public var isAlive: Bool {
    client.settings.isUnmanaged || !client.settings.isProvisioned || poller.isAlive()
  }

  // MARK: Life

  private var currentIdentity: [String] { [client.endpoint, client.uuid, client.deviceKey] }

  private func begin() async {
    let settings = client.settings
    do throws(SettingError) { try await settings.generateIdentity() } catch {
      logger.error("Cannot store the device's identity: \(error)")
    }
    identity = currentIdentity
    guard !settings.isUnmanaged else {
      // A later join reports the configuration again.
      if settings.string(.initialConfigReported) ?? "" != "" {
        try? settings.setRows([.initialConfigReported: .string("")])
      }
      try? store.settings.remove(FirstContact.noteKey)
      return
    }
    tasks = [
      Task { await run() },
      Task { await logs.run() },
    ]
  }

  private func run() async {
    // They may bring a wish to be pinned, which counts before the first poll.
    await host.preloadIsTried()
    await provisioner.run()
    guard !Task.isCancelled else { return }
    logs.settingsChanged()
    tasks.append(Task { await poller.run() })
    tasks.append(Task { await reporter.run() })
    tasks.append(Task { await tagReporter.run() })
  }

  /// The identity of a provisioned device changes only by a join or leave.
  private func settingsChanged() {
    logs.settingsChanged()
    // Tools write the file in several steps.
    settling?.cancel()
    settling = EventLoop.shared.schedule(after: .seconds(1)) { [unowned self] in
      if currentIdentity != identity || isProvisioningDue {
        restart("The device's cloud or identity has changed")
      } else {
        provisioner.alarm.ring()
      }
    }
  }

  private func restart(_ reason: String) {
    // What begins now has the newest settings.
    guard !isChanging else { return }
    logger.notice("\(reason): starting the cloud link anew")
    let former = tasks
    for task in former { task.cancel() }
    tasks = []
    isChanging = true
    Task {
      // Two polls, or two reports, must never be under way.
      for task in former { await task.value }
      poller.forgetTag()
      await begin()
      isChanging = false
    }
  }

  private var isPolling: Bool { tasks.count > 2 }

  /// The provisioning key comes back with a join, also of the cloud that knows the device already.
  private var isProvisioningDue: Bool { isPolling && !(client.settings.string(.apiKey) ?? "").isEmpty }

  /// Tells a new cloud what the device is configured to, as it was before the first target of this cloud
  /// changes it. Nothing waits for it.
  private func firstContact(target: [String: String]) {
    guard isFirstContactDue else { return }
    let contact = FirstContact(client, store: store, host: host, logger: logger)
    let configuration = contact.configuration()
    isFirstContact = true
    tasks.append(
      Task {
        await report(contact, configuration, target: target)
        isFirstContact = false
      })
  }

  /// Due, and not under way. After a restart the target of the next poll begins it again.
  private var isFirstContactDue: Bool {
    !isFirstContact && FirstContact(client, store: store, host: host, logger: logger).isDue
  }

  private func report(
    _ contact: FirstContact, _ configuration: [String: String], target: [String: String]
  ) async {
    var backOff = BackOff(
      first: .milliseconds(max(Int64(client.settings.int(.bootstrapRetryDelay)), 1000)), limit: .seconds(600))
    var random = SystemRandomNumberGenerator()
    let alarm = Alarm()
    while !Task.isCancelled, contact.isDue {
      do throws(CloudFailure) {
        return try await contact.report(configuration, target: target)
      } catch {
        logger.error("Could not report initial configuration to API, will retry: \(error)")
        await alarm.wait(backOff.fail(error.advice, using: &random))
      }
    }
  }
}
