import Cloud
import Database
import DeviceAPI
import Engine
import EventLoop
import HTTPClient
import HostConfiguration
import JSON
import Logging
import Model
import StateEngine

// The link to the cloud: what it needs of the device, and what the other parts need of it.

extension Agent {
  /// Makes the link and starts it. An unmanaged device has one, too: it may join a fleet.
  func startCloud(environment: [String: String], engine: EngineClient) {
    trustExtraRoots(environment)
    for path in [reportCachePath, formerIdentityPath, paths.configCopy] { DurableFile.secure(path) }
    let cloud = CloudLink(
      settings: settings, store: store, http: .shared, host: self, logger: Logger(label: "cloud")
    ) { [unowned self] in userAgent }
    self.cloud = cloud
    do throws(SystemError) {
      configWatcher = try FileWatcher(paths.config) { [unowned self] in
        Task {
          await settings.reloadConfigFile()
          trustExtraRoots(environment)
        }
      }
    } catch {
      logger.warning("Changes of \(paths.config) count from the next start on: \(error)")
    }
    watchNetwork(for: cloud)
    if let stateEngine {
      let logger = Logger(label: "cloud")
      let drivers = LogDriverCheck(engine, logger: logger) { [unowned self] in
        cloudLog($0, isError: true)
        return true
      }
      let source = JournalLogSource(
        engine: stateEngine, store: store, logger: logger, drivers: drivers,
        formerEnd: { await OwnContainer.end(engine) }, source: { [unowned self] in journalSource })
      logSource = source
      cloud.logs.follow(source)
    }
    cloud.start()
    for record in earlyLogRecords { cloud.logs.post(record) }
    earlyLogRecords = []
    systemLog("Supervisor starting", isError: false)
  }

  /// `Supervisor/<version> (Linux; <OS>; <variant>)` (cloud 0.3).
  var userAgent: String {
    guard let release = facts.osRelease, let name = release.prettyName else {
      return "Supervisor/\(AgentVersion.text)"
    }
    return "Supervisor/\(AgentVersion.text) (Linux; \(name); \(osVariant))"
  }

  private var osVariant: String {
    (facts.osRelease ?? OSRelease(parsing: "")).variant(isDevelopmentMode: settings.bool(.developmentMode))
  }

  /// Certificates beyond the system's, in the order of cloud 0.3. A bad one is left out alone.
  private func trustExtraRoots(_ environment: [String: String]) {
    var sources: [(name: String, text: String)] = []
    if let path = environment["NODE_EXTRA_CA_CERTS"], !path.isEmpty {
      do throws(FileError) {
        sources.append(
          ("NODE_EXTRA_CA_CERTS", String(decoding: try DurableFile.read(path), as: UTF8.self)))
      } catch {
        logger.warning("The certificates of NODE_EXTRA_CA_CERTS are not used: \(error)")
      }
    }
    if let text = environment["BALENA_ROOT_CA"], !text.isEmpty { sources.append(("BALENA_ROOT_CA", text)) }
    if let text = settings.configMember("balenaRootCA")?.stringValue, !text.isEmpty {
      // What is no base64 text has no certificate either.
      sources.append(("balenaRootCA", String(decoding: Base64.decode(text) ?? [], as: UTF8.self)))
    }
    guard let contents = HTTPClient.shared.setExtraRoots(sources.map(\.text)) else { return }
    for (source, content) in zip(sources, contents) {
      if content.unreadable > 0 {
        let all = content.count + content.unreadable
        logger.warning(
          "\(content.unreadable) of \(all) certificates of \(source.name) cannot be read: the others count")
      } else if content.count == 0 {
        logger.warning("\(source.name) has no certificate")
      }
    }
  }
}

extension Agent: @MainActor CloudHost {
  public var isTargetStored: Bool {
    do throws(DatabaseError) { return try store.targets.isSet() } catch { return false }
  }

  public func takeTarget(_ document: JSON, force: Bool) throws(TargetRefusal) {
    guard let stateEngine else { throw .notStored("the agent has not started yet") }
    do throws(TargetRejection) {
      try stateEngine.setTarget(document, source: settings.string(.apiEndpoint) ?? "", force: force)
    } catch {
      switch error {
      case .invalid: throw .invalid
      case .notStored(let text): throw .notStored(text)
      }
    }
  }

  public func applyTarget(force: Bool, cancel: Bool) { stateEngine?.trigger(force: force, cancel: cancel) }

  // MARK: Report

  public var deviceFields: JSONObject {
    _ = deviceFactsRevision
    var fields: JSONObject = [
      "api_port": .int(ports.known), "status": "Idle",
      "supervisor_version": .string(AgentVersion.text), "provisioning_progress": .null,
      "provisioning_state": "", "os_variant": .string(osVariant),
    ]
    if let name = facts.releaseField("PRETTY_NAME") { fields["os_version"] = .string(name) }
    let addresses = deviceFacts.addresses
    if !addresses.isEmpty { fields["ip_address"] = .string(addresses.joined(separator: " ")) }
    if let addresses = deviceFacts.macAddresses { fields["mac_address"] = .string(addresses) }
    do throws(DatabaseError) { fields["api_secret"] = .string(try store.keys.globalKey()) } catch {
      logger.error("Cannot make the device's API key: \(error.message)")
    }
    return fields
  }

  public func metrics() async -> JSONObject {
    let values = systemMetrics.read()
    var fields: JSONObject = ["is_undervolted": .bool(values.isUndervolted)]
    guard settings.bool(.hardwareMetrics) else {
      for name in ReportDifference.metrics.sorted() { fields[name] = .null }
      return fields
    }
    fields["storage_block_device"] = .string(values.storageDevice)
    for (name, value) in [
      ("cpu_usage", values.cpuUsage), ("memory_usage", values.memoryUsage),
      ("memory_total", values.memoryTotal), ("storage_usage", values.storageUsage),
      ("storage_total", values.storageTotal), ("cpu_temp", values.cpuTemperature),
    ] {
      if let value { fields[name] = .int(value) }
    }
    if let id = values.cpuID { fields["cpu_id"] = .string(id) }
    return fields
  }

  public var reportedApps: JSONObject? {
    // Before the first look at the engine it is not known what runs; apps of another source are nothing to a cloud.
    guard let stateEngine, stateEngine.isTargetMapped else { return Optional.none }
    return Self.reportedApps(
      stateEngine.report, targets: stateEngine.targetOutlines, commits: stateEngine.commits)
  }

  /// `apps` of the report (cloud 3.1): apps of the target, each with all of its releases.
  static func reportedApps(_ report: StatusReport, targets: [TargetOutline], commits: [Int: String])
    -> JSONObject
  {
    var apps = JSONObject()
    for app in targets {
      guard let uuid = app.uuid else { continue }
      let own = report.services.filter { $0.appUuid == uuid && $0.commit != nil }
      var releases = JSONObject()
      var names = own.compactMap(\.commit)
      if let commit = app.commit { names.append(commit) }
      for commit in names where releases[commit] == nil {
        let status = report.updateStatus(appId: app.appId, commit: commit)
        var services = JSONObject()
        for service in own where service.commit == commit && !app.isRejected {
          var row: JSONObject = ["image": .string(service.imageName), "status": .string(service.status)]
          if let progress = service.progress { row["download_progress"] = .int(progress) }
          services[service.service] = .object(row)
        }
        releases[commit] = ["update_status": .string(status.rawValue), "services": .object(services)]
      }
      var members = JSONObject()
      if let commit = commits[app.appId] { members["release_uuid"] = .string(commit) }
      members["releases"] = .object(releases)
      apps[uuid] = .object(members)
    }
    return apps
  }

  // MARK: Others

  public var currentConfiguration: [String: String] {
    settings.currentVariables.merging(host.bootVariables) { _, boot in boot }
  }

  public func systemLog(_ text: String, isError: Bool) {
    logger.log(level: isError ? .error : .info, "\(text)")
    cloudLog(text, isError: isError)
  }

  /// A line on the device's log stream alone.
  func cloudLog(_ text: String, isError: Bool) {
    let now = max(CloudTime.milliseconds(), 0)
    let record = LogRecord(message: text, timestamp: now, isStdErr: isError, isSystem: true, isEvent: true)
    if let cloud { return cloud.logs.post(record) }
    if earlyLogRecords.count < Self.earlyLogLimit { earlyLogRecords.append(record) }
  }

  private static let earlyLogLimit = 100

  public var formerIdentityPath: String {
    "\(DurableFile.directory(of: paths.database))/former-identities.json"
  }
  public var reportCachePath: String { paths.stateReportCache }
}
