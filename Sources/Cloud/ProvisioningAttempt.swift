public import HTTPClient

/// One attempt to make the device known to the cloud (cloud 1.3), as a pure state machine: `next`
/// says what to ask, `receive` takes the answer.
///
/// It never decides to give the identity up. It only says, by `isUnknown`, that the cloud has
/// answered definitely that it knows neither this uuid nor this key; `IdentityDoubt` weighs that.
public nonisolated struct ProvisioningAttempt: Sendable {
  /// What is asked of the cloud.
  public enum Request: Sendable, Hashable {
    case register
    case lookUpWithDeviceKey
    case lookUpWithProvisioningKey
    case addDeviceKey(deviceId: Int)
  }

  public enum Answer: Sendable, Hashable {
    /// Registered, or found: the device's id.
    case device(Int)
    /// 200 with an empty list, or 401, 403, 404: a definite no.
    case unknown
    /// 409 to a registration.
    case taken
    case keyAdded
    /// Another refusal, or no answer at all.
    case failed(String, status: Int?)
  }

  public struct Failure: Error, Sendable, Hashable {
    public var message: String
    /// The cloud knows neither the uuid with our key, nor lets us register it.
    public var isUnknown = false
    /// The provisioning key is refused: nothing will change soon.
    public var isKeyRefused = false
  }

  public enum Step: Sendable, Hashable {
    case send(Request)
    /// The device's id; whether it was registered just now.
    case done(deviceId: Int, isNew: Bool)
    case failed(Failure)
  }

  /// What config.json has.
  public struct Inputs: Sendable, Hashable {
    public var uuid: String
    public var hasProvisioningKey: Bool
    public var applicationId: Int?
    public var deviceId: Int?
    public var isRegistered: Bool

    public init(
      uuid: String, hasProvisioningKey: Bool, applicationId: Int? = nil, deviceId: Int? = nil,
      isRegistered: Bool = false
    ) {
      self.uuid = uuid
      self.hasProvisioningKey = hasProvisioningKey
      self.applicationId = applicationId
      self.deviceId = deviceId
      self.isRegistered = isRegistered
    }
  }

  private let inputs: Inputs
  private var isNew: Bool
  private var foundId: Int?
  /// A registered device with an id never doubts its identity.
  private let mayDoubt: Bool

  public private(set) var next: Step

  public init(_ inputs: Inputs) {
    self.inputs = inputs
    isNew = !inputs.isRegistered
    mayDoubt = !inputs.isRegistered || inputs.deviceId == nil
    if inputs.isRegistered, let id = inputs.deviceId, !inputs.hasProvisioningKey {
      next = .done(deviceId: id, isNew: false)
    } else if inputs.isRegistered {
      next = .send(.lookUpWithDeviceKey)
    } else if !inputs.hasProvisioningKey {
      next = .failed(Failure(message: "Cannot provision without a provisioning api key"))
    } else if inputs.applicationId == nil {
      next = .failed(Failure(message: "Cannot provision without an application id"))
    } else if inputs.uuid.isEmpty {
      next = .failed(Failure(message: "Cannot provision without a uuid"))
    } else {
      next = .send(.register)
    }
  }

  public mutating func receive(_ answer: Answer) {
    guard case .send(let request) = next else { return }
    switch (request, answer) {
    case (.register, .device(let id)), (.lookUpWithDeviceKey, .device(let id)):
      next = .done(deviceId: id, isNew: isNew)
    case (.register, .taken): next = .send(.lookUpWithDeviceKey)
    case (.register, .failed(let text, let status)):
      next = .failed(Failure(message: text, isKeyRefused: status == 401 || status == 403))
    case (.lookUpWithDeviceKey, .unknown):
      next =
        inputs.hasProvisioningKey
        ? .send(.lookUpWithProvisioningKey)
        : .failed(
          Failure(
            message:
              "the cloud does not know this device by its key. Required a provisioning key in exchangeKeyAndGetDevice"
          ))
    case (.lookUpWithProvisioningKey, .device(let id)):
      foundId = id
      next = .send(.addDeviceKey(deviceId: id))
    case (.lookUpWithProvisioningKey, .unknown):
      next = .failed(
        Failure(
          message: "the cloud knows this device neither by its own key nor by the provisioning key",
          isUnknown: mayDoubt))
    case (.addDeviceKey(let id), .keyAdded): next = .done(deviceId: id, isNew: isNew)
    case (_, .failed(let text, _)): next = .failed(Failure(message: text))
    default: next = .failed(Failure(message: "Failed to provision device"))
    }
  }
}

/// Whether the identity may be given up (cloud, W1): only after at least three definite answers over
/// at least ten minutes. Answers that say nothing definite neither count nor clear the doubt; a
/// success clears it.
public nonisolated struct IdentityDoubt: Sendable, Hashable {
  public static let requiredAnswers = 3
  public static let requiredTime = Duration.seconds(600)

  private var answers = 0
  private var first: Duration?

  public init() {}

  /// - Parameter time: of the monotonic clock.
  /// - Returns: true when a new identity is to be made.
  public mutating func unknown(at time: Duration) -> Bool {
    answers += 1
    guard let first else {
      self.first = time
      return false
    }
    return answers >= Self.requiredAnswers && time - first >= Self.requiredTime
  }

  public mutating func clear() { self = IdentityDoubt() }
}

/// Delays between attempts (cloud 11.3): the configured one for five tries, doubling to ten minutes
/// afterwards, and ten minutes at once when the provisioning key is refused.
public nonisolated struct ProvisioningDelay: Sendable, Hashable {
  public static let plainTries = 5
  public static let limit = Duration.seconds(600)

  private var failures = 0

  public init() {}

  public mutating func fail(
    base: Duration, isKeyRefused: Bool, advice: RetryAdvice = RetryAdvice(),
    using random: inout some RandomNumberGenerator
  ) -> Duration {
    if advice.isClockWrong { return CloudTimes.firstRetry }
    failures += 1
    let doublings = min(max(failures - Self.plainTries, 0), 20)
    let bound = isKeyRefused ? max(Self.limit, base) : min(max(Self.limit, base), base * (1 << doublings))
    var delay = bound + .random(.zero...bound / 5, using: &random)
    if let after = advice.after { delay = after + .random(.zero...after / 5, using: &random) }
    return advice.isOverloaded ? max(delay, CloudTimes.firstRetry) : delay
  }

  public mutating func succeed() { failures = 0 }
}
