import EventLoop
public import JSON

// What of the device's state the cloud has to be told (cloud 3.2). Pure.

public nonisolated enum ReportDifference {
  /// Sent only now and then when nothing else has changed.
  public static let metrics: Set<String> = [
    "cpu_usage", "memory_usage", "memory_total", "storage_usage", "storage_total", "storage_block_device",
    "cpu_temp", "cpu_id",
  ]

  /// Fields of `current` that differ from the last accepted ones, each whole, without empty objects.
  public static func fields(from accepted: JSONObject, to current: JSONObject) -> JSONObject {
    var changed = JSONObject()
    for (name, value) in current where accepted[name] != value {
      if let kept = pruned(value) { changed[name] = kept }
    }
    return changed
  }

  public static func isOnlyMetrics(_ fields: JSONObject) -> Bool { fields.keys.allSatisfy(metrics.contains) }

  /// Without objects that are empty, or that become so; arrays and nulls stay.
  static func pruned(_ value: JSON) -> JSON? {
    guard case .object(let members) = value else { return value }
    var kept = JSONObject()
    for (name, member) in members {
      if let member = pruned(member) { kept[name] = member }
    }
    return kept.isEmpty ? Optional.none : .object(kept)
  }

  /// Keeps the last reported value of a metric while it stays in its bucket.
  public static func steady(_ fields: JSONObject, accepted: JSONObject) -> JSONObject {
    var fields = fields
    for (name, width) in [("cpu_usage", 20.0), ("memory_usage", 10.0), ("cpu_temp", 5.0)] {
      guard let new = fields[name]?.doubleValue, let old = accepted[name]?.doubleValue else { continue }
      if (new / width).rounded(.down) == (old / width).rounded(.down) { fields[name] = accepted[name] }
    }
    return fields
  }
}

/// When a report may be sent (cloud 3.3). Pure; times are of the monotonic clock.
public nonisolated struct ReportThrottle: Sendable, Hashable {
  public static let spacing = Duration.seconds(10)
  public static let metricsSpacing = Duration.seconds(300)

  private var lastAccepted: Duration?
  private var nextMetrics: Duration?
  /// A fleet that changes at once would else have its metrics reported at once, five minutes later.
  private let phase: Duration

  /// - Parameter uuid: of the device; decides on its phase.
  public init(uuid: String) {
    // FNV-1a: the same at each start, other than Swift's hashes.
    let hash = uuid.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    phase = .milliseconds(Int64(hash % UInt64(Self.metricsSpacing.milliseconds)))
  }

  /// The phase shifts the metrics that follow a change, and these keep the distance.
  public mutating func accepted(at now: Duration, isOnlyMetrics: Bool) {
    lastAccepted = now
    nextMetrics = now + Self.metricsSpacing + (isOnlyMetrics ? .zero : phase)
  }

  /// There was nothing to report.
  public mutating func looked(at now: Duration) {
    if delayOfMetrics(at: now) == .zero { nextMetrics = now + Self.metricsSpacing }
  }

  /// How long a change has to wait.
  public func delayOfChange(at now: Duration) -> Duration {
    guard let lastAccepted else { return .zero }
    return max(.zero, lastAccepted + Self.spacing - now)
  }

  /// How long a change of metrics alone has to wait.
  public func delayOfMetrics(at now: Duration) -> Duration {
    guard let nextMetrics else { return .zero }
    return max(.zero, nextMetrics - now)
  }
}

/// A cloud that refuses reports (cloud, W8): after three refusals one report goes without `apps`, so that
/// the rest stays fresh, and then whole ones are tried again; from then on each refusal is followed by one
/// without.
public nonisolated struct ReportRefusals: Sendable, Hashable {
  public static let patience = 3
  private var count = 0
  public private(set) var isWithoutApps = false

  public init() {}

  public mutating func refused() {
    count += 1
    if count >= Self.patience { isWithoutApps = true }
  }

  public mutating func succeed() {
    count = isWithoutApps ? Self.patience - 1 : 0
    isWithoutApps = false
  }
}
