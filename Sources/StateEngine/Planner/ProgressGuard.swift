import Model

/// Tells a plan that brings the device forward from one that goes in circles (state-engine 12, 11).
///
/// Two kinds of circle are known: a step that is planned again and again although it was done
/// each time, and a container that is replaced again and again for the same reason, since the
/// engine never shows what the target says. Both count as failures, so that the app waits longer
/// and longer between two tries and the log says why.
nonisolated struct ProgressGuard {
  /// Times that one step may be done in a row.
  static let repeatLimit = 5
  /// Times that a container may be replaced for one and the same reason.
  static let replacementLimit = 3

  /// By subject: the last step that was done, and how often in a row.
  private var repeats: [String: (planned: PlannedStep, count: Int)] = [:]
  /// By app and service, then by reason: how often its container went for it.
  private var replacements: [Int: [String: [String: Int]]] = [:]

  /// - Returns: why the step had better wait, nil when it is fine.
  func objection(to planned: PlannedStep) -> String? {
    if let last = repeats[planned.subject], last.planned == planned, last.count >= Self.repeatLimit {
      return "done \(last.count) times and still needed (\(planned.reason))"
    }
    if let (appId, service, reason) = Self.replacement(planned),
      let count = replacements[appId]?[service]?[reason], count >= Self.replacementLimit
    {
      return "the container was replaced \(count) times and still differs (\(reason))"
    }
    return nil
  }

  /// One more try after a wait.
  mutating func retry(_ planned: PlannedStep) {
    if let last = repeats[planned.subject], last.planned == planned {
      repeats[planned.subject] = (planned, Self.repeatLimit - 1)
    }
    if let (appId, service, reason) = Self.replacement(planned) {
      replacements[appId]?[service]?[reason] = Self.replacementLimit - 1
    }
  }

  mutating func completed(_ planned: PlannedStep) {
    // A pull counts its failures itself.
    if planned.step.isFetch { return }
    let subject = planned.subject
    let count = repeats[subject].map { $0.planned == planned ? $0.count + 1 : 1 } ?? 1
    repeats[subject] = (planned, count)
    if let (appId, service, reason) = Self.replacement(planned) {
      replacements[appId, default: [:]][service, default: [:]][reason, default: 0] += 1
    }
  }

  /// The app has arrived, or has another target: what was, counts no longer.
  mutating func forget(app appId: Int) {
    replacements[appId] = nil
    repeats = repeats.filter { $0.value.planned.appId != appId }
  }

  mutating func forgetAll() {
    repeats = [:]
    replacements = [:]
  }

  private static func replacement(_ planned: PlannedStep) -> (Int, String, String)? {
    switch planned.step {
    case .kill(let service), .setAside(let service), .handover(let service, _):
      guard case .differences = planned.reason else { return nil }
      return (service.appId, service.name, planned.reason.description)
    default: return nil
    }
  }
}
