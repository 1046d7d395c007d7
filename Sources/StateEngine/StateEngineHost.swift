public import Model

/// What the state engine needs of the agent around it.
public protocol StateEngineHost: StepHost {
  /// `local`, or the API endpoint (target-state 1.6).
  var targetSource: String { get }
  var isLocalMode: Bool { get }
  /// Longest delay between tries.
  var pollInterval: Duration { get }
  var rebootState: RebootState { get }
  var deviceUuid: String { get }
  /// What contracts of services are held against.
  var contractFacts: ContractFacts { get }
  /// Brings settings and boot configuration of the device to the target, before apps are looked at;
  /// returns at once when nothing is due.
  func configureDevice() async
  /// A target was stored; `config` is as it was sent. Settings among it take effect now.
  func targetStored(config: [String: String])
  /// config.json names the volume `extra-firmware`.
  var isExtraFirmwareNamed: Bool { get }
  /// Everything but the services' API keys.
  func mappingContext(supervisorGateway: String?) -> MappingContext
  /// The key with which a service calls the API; nil when none can be made now.
  func supervisorAPIKey(appId: Int, service: String) -> String?
}

extension StateEngineHost {
  public func configureDevice() async {}
}
