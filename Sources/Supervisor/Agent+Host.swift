import Database
import DeviceAPI
import Engine
import EventLoop
import Glibc
import HostConfiguration
import JSON
import Logging
import Model
import StateEngine
import SystemBus

// What the parts above the host configuration ask of the device.

extension Agent: @MainActor StateEngineHost {
  public var deviceUuid: String { settings.string(.uuid) ?? "" }
  public var deviceName: String { settings.string(.name) ?? "local" }
  public var deviceType: String { facts.deviceType }
  public var targetSource: String { settings.targetSource }
  public var isLocalMode: Bool { settings.isUnmanaged || settings.bool(.localMode) }
  public var isLockOverridden: Bool { settings.bool(.lockOverride) }
  public var pollInterval: Duration { settings.pollInterval }

  public var contractFacts: ContractFacts {
    let kernel = facts.kernel
    return ContractFacts(
      agentVersion: AgentVersion.number, deviceType: facts.deviceType, architecture: facts.architecture,
      l4tVersion: kernel.l4tVersion,
      operatingSystem: .init(slug: facts.releaseField("ID"), version: facts.releaseField("VERSION")),
      kernel: .init(slug: kernel.slug, version: kernel.version))
  }

  public func mappingContext(supervisorGateway: String?) -> MappingContext {
    let release = facts.osRelease
    return MappingContext(
      deviceUuid: deviceUuid, deviceType: facts.deviceType, deviceArch: facts.architecture,
      osVersion: facts.releaseField("PRETTY_NAME") ?? "",
      hostName: settings.string(.hostname) ?? facts.hostname ?? "",
      supervisorHost: supervisorGateway ?? "127.0.0.1", listenPort: listenPort,
      apiEndpoint: settings.isUnmanaged ? nil : settings.effectiveApiEndpoint,
      deviceApiKey: settings.string(.deviceApiKey), engineSocketPath: engineSocketPath,
      hasHostFirmware: facts.hasFirmware, hasHostModules: facts.hasKernelModules,
      boardRev: release?["BALENA_BOARD_REV"] ?? release?["RESIN_BOARD_REV"])
  }

  private var engineSocketPath: String {
    if case .unix(let path)? = EngineEndpoint(engineAddress) { path } else { "/var/run/docker.sock" }
  }

  public func supervisorAPIKey(appId: Int, service: String) -> String? {
    do throws(DatabaseError) { return try store.keys.key(app: appId, service: service) } catch {
      logger.error("Cannot make an API key for service \(service): \(error.message)")
      return nil
    }
  }

  public func registryCredentials(registry: String) -> RegistryCredentials? {
    guard !settings.isUnmanaged, let key = settings.currentApiKey, !key.isEmpty else { return nil }
    return .password(username: "d_\(deviceUuid)", password: key, serverAddress: registry)
  }

  public var deltaSettings: DeltaSettings? {
    guard settings.bool(.delta), !settings.isUnmanaged, let key = settings.currentApiKey, !key.isEmpty
    else { return nil }
    let applyTimeout = settings.int(.deltaApplyTimeout)
    return DeltaSettings(
      version: settings.int(.deltaVersion), endpoint: settings.string(.deltaEndpoint) ?? "",
      // The override is for the device's state only (cloud 0.2).
      apiEndpoint: settings.string(.apiEndpoint) ?? "", username: "d_\(deviceUuid)", key: key,
      requestTimeout: .milliseconds(max(1, settings.int(.deltaRequestTimeout))),
      applyTimeout: applyTimeout > 0 ? .milliseconds(applyTimeout) : nil, userAgent: userAgent)
  }

  // MARK: Target

  /// Host tooling reads the dump (target-state 1.6); settings of the agent take effect at once.
  public func targetStored(config: [String: String]) {
    let dump = paths.onHost("tmp/balena-supervisor/target-state-config")
    do throws(FileError) {
      try DurableFile.makeDirectories(for: dump)
      try DurableFile.write(JSON(config).bytes(), to: dump)
    } catch {
      logger.error("Cannot write \(dump): \(error)")
    }
    host.configurator.noteTarget()
    host.applyFirewall()
  }

  public func configureDevice() async { await host.configurator.apply() }

  public var effectiveConfig: [String: String] {
    do throws(DatabaseError) {
      return DeviceConfiguration.effectiveTarget(
        try store.targets.deviceConfig(), isUnmanaged: settings.isUnmanaged)
    } catch {
      logger.error("Cannot read the device configuration: \(error.message)")
      return DeviceConfiguration.effectiveTarget([:], isUnmanaged: settings.isUnmanaged)
    }
  }

  // MARK: Files of the host

  public func pathOnHost(_ path: String) -> String? { paths.onHost(String(path.drop { $0 == "/" })) }

  public func serviceDirectory(appId: Int, service: String) -> String {
    paths.onHost("tmp/balena-supervisor/services/\(appId)/\(service)")
  }

  public var isExtraFirmwareNamed: Bool {
    switch ExtraFirmware(of: settings.configMember("os")) {
    case .named:
      saidMalformedSection = nil
      return true
    case .unnamed:
      saidMalformedSection = nil
      return false
    case .malformed(let section):
      // The user's to correct: left alone, and not asked for again and again.
      if saidMalformedSection != section {
        logger.warning("Malformed config.json: \(section) is not an object")
        saidMalformedSection = section
      }
      return true
    }
  }

  public func nameExtraFirmwareVolume() async throws(StepError) {
    let os = settings.configMember("os")
    guard case .unnamed(let old) = ExtraFirmware(of: os), let named = ExtraFirmware.naming(in: os) else {
      return
    }
    do throws(SettingError) { try await settings.set([.os: named]) } catch {
      throw .failed("cannot name the extra firmware volume in \(paths.config): \(error.description)")
    }
    let former = old.map { $0.stringValue ?? "\($0)" } ?? "undefined"
    logger.info("Extra firmware volume name changed from \(former) to \(ExtraFirmware.volume)")
  }

  // MARK: Reboot

  public var rebootState: RebootState {
    // A marker of an earlier boot is done with: it schedules nothing.
    let isRequired = host.rebootMarker.isRequired
    return RebootState(
      isScheduled: isRequired, isRequired: isRequired,
      bootTime: Timestamp(seconds: host.rebootMarker.bootTime))
  }

  public func scheduleReboot(service: String) throws(StepError) {
    do throws(FileError) { try host.rebootMarker.set() } catch {
      throw .failed("cannot schedule a reboot: \(error)")
    }
    let object: JSON = ["serviceName": .string(service)]
    report(
      .rebootScheduled, text: "\(SystemEvent.rebootScheduled.humanName): \(object)", isError: false)
  }

  public func reboot(force: Bool) async throws(StepError) {
    do throws(BusError) { try await host.login.reboot(force: force) } catch {
      throw .failed("Unable to reboot: \(error)")
    }
  }

  public func powerOff(force: Bool) async throws(StepError) {
    do throws(BusError) { try await host.login.powerOff(force: force) } catch {
      throw .failed("Unable to shutdown: \(error)")
    }
  }

  public var isHostUpdatePending: Bool { paths.hostUpdateMarkers.contains { access($0, F_OK) == 0 } }

  // MARK: Log

  public func report(_ event: SystemEvent, text: String, isError: Bool) {
    say(text, event: event.rawValue, isError: isError)
  }

  func report(_ event: DeviceEvent, _ text: String) {
    say(text, event: event.rawValue, isError: event.isError)
  }

  private func say(_ text: String, event: String, isError: Bool) {
    logger.log(level: isError ? .error : .info, "\(text)", metadata: ["EVENT": "\(event)"])
    api?.showSystemEvent(text, isError: isError)
    cloudLog(text, isError: isError)
  }
}
