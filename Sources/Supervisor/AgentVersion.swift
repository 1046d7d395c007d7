import Glibc

/// The version that clients, contracts and the cloud see.
///
/// Clients compare it with releases of the Supervisor (specification http-api 5.7,
/// target-state 7.1), so the number is that of the behaviour that this agent implements.
public nonisolated enum AgentVersion {
  /// Semantic version, without a leading `v`.
  public static let number = "19.0.5"

  /// `number`, and the build tag out of `SUPERVISOR_TAG_EXTRA` when there is one.
  public static let text: String = {
    guard let extra = getenv("SUPERVISOR_TAG_EXTRA").map({ String(cString: $0) }), !extra.isEmpty else {
      return number
    }
    return "\(number)+\(extra)"
  }()
}
