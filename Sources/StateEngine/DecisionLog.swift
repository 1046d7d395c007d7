import EventLoop
import Logging

/// The last decisions and their reasons: which step, for which app and service, and why.
///
/// A bounded ring: the newest `capacity` are kept. Each goes to the agent's log as one record.
public final class DecisionLog {
  public nonisolated struct Decision: Sendable {
    public let sequence: UInt64
    public let time: MonotonicTime
    public let step: String
    public let appId: Int?
    public let service: String?
    public let reason: String
  }

  public static let capacity = 256
  /// `MESSAGE_ID` of a decision's record in the journal.
  public static let messageId = "6a1f4cb01d0b4f4c9a58b5c6f4a0d7e2"

  private var ring: [Decision] = []
  private var next = 0
  private var count: UInt64 = 0
  private let logger: Logger

  public init(logger: Logger) { self.logger = logger }

  /// Oldest first.
  public var decisions: [Decision] { Array(ring[next...] + ring[..<next]) }

  func note(_ step: PlannedStep, at time: MonotonicTime) {
    let decision = Decision(
      sequence: count, time: time, step: step.step.name, appId: step.appId, service: step.service,
      reason: step.reason.description)
    count += 1
    if ring.count < Self.capacity {
      ring.append(decision)
    } else {
      ring[next] = decision
      next = (next + 1) % Self.capacity
    }
    var metadata: Logger.Metadata = ["MESSAGE_ID": "\(Self.messageId)", "STEP": "\(decision.step)"]
    if let appId = decision.appId { metadata["APP_ID"] = "\(appId)" }
    if let service = decision.service { metadata["SERVICE"] = "\(service)" }
    metadata["REASON"] = "\(decision.reason)"
    let subject = [decision.appId.map { "app \($0)" }, decision.service.map { "service \($0)" }]
      .compactMap(\.self).joined(separator: ", ")
    logger.info(
      "\(decision.step)\(subject.isEmpty ? "" : " (\(subject))"): \(decision.reason)", metadata: metadata)
  }
}
