import EventLoop
import Glibc
import HTTPClient
import HostConfiguration
import JSON
import Logging

/// Reports the device's state: what has changed since the last accepted report, at most every ten
/// seconds, metrics alone at most every five minutes, one request at a time (cloud 3).
final class StateReporter {
  private let client: CloudClient
  private unowned let host: any CloudHost
  private let logger: Logger
  private let alarm = Alarm()
  private var throttle: ReportThrottle
  private var backOff: BackOff
  private var refusals = ReportRefusals()
  private var accepted = JSONObject()
  /// Whom `accepted` was reported to.
  private var audience: ReportAudience?
  private var hasChanged = true
  private var isProblemKnown = false
  private var knownRefusal: String?

  /// Called after each report that the cloud has taken.
  var onContact: () -> Void = {}

  init(_ client: CloudClient, host: any CloudHost, logger: Logger) {
    self.client = client
    self.host = host
    self.logger = logger
    throttle = ReportThrottle(uuid: client.uuid)
    backOff = BackOff(limit: client.pollInterval)
  }

  /// Something that is reported may have changed.
  func changed() {
    guard !hasChanged else { return }
    hasChanged = true
    alarm.ring()
  }

  /// Reports until the task is cancelled.
  func run() async {
    loadCache()
    while !Task.isCancelled {
      let now = Self.now
      let wait = hasChanged ? throttle.delayOfChange(at: now) : throttle.delayOfMetrics(at: now)
      if wait > .zero {
        await alarm.wait(wait, tolerance: hasChanged ? .milliseconds(100) : .seconds(5))
        // A change that comes during the wait for metrics only shortens it.
        if hasChanged
          ? throttle.delayOfChange(at: Self.now) > .zero : throttle.delayOfMetrics(at: Self.now) > .zero
        {
          continue
        }
      }
      guard !Task.isCancelled else { return }
      hasChanged = false
      await report()
    }
  }

  private static var now: Duration { .nanoseconds(Int64(clamping: MonotonicTime.read().nanoseconds)) }

  // MARK: One report

  private func report() async {
    let audience = client.audience
    if audience != self.audience {
      accepted = [:]
      self.audience = audience
    }
    let current = await document()
    var wanted = current
    if refusals.isWithoutApps { wanted["apps"] = nil }
    let fields = ReportDifference.fields(from: accepted, to: wanted)
    // Entering local mode takes fields away, which an empty report says.
    let isLeaving = accepted["apps"] != nil && current["apps"] == nil && !refusals.isWithoutApps
    if !isLeaving, fields.isEmpty || isTooEarly(fields) {
      if fields.isEmpty { throttle.looked(at: Self.now) }
      if refusals.isWithoutApps {
        // Nothing else is to be kept fresh: the whole report is tried again.
        refusals.succeed()
        hasChanged = true
      }
      return
    }
    do throws(CloudFailure) {
      _ = try await client.succeed(
        "PATCH", CloudAddress.resolve("/device/v3/state", on: client.base), key: client.deviceKey,
        body: .object([audience.uuid: .object(fields)]))
      succeeded(wanted: wanted, isOnlyMetrics: !isLeaving && ReportDifference.isOnlyMetrics(fields))
    } catch {
      await failed(error)
    }
  }

  private func isTooEarly(_ fields: JSONObject) -> Bool {
    ReportDifference.isOnlyMetrics(fields) && throttle.delayOfMetrics(at: Self.now) > .zero
  }

  private func succeeded(wanted: JSONObject, isOnlyMetrics: Bool) {
    let apps = accepted["apps"]
    accepted = wanted
    if refusals.isWithoutApps {
      // What it thinks of the apps has not changed; the whole report is tried again.
      accepted["apps"] = apps
      hasChanged = true
    } else {
      backOff.succeed()
      knownRefusal = nil
    }
    refusals.succeed()
    throttle.accepted(at: Self.now, isOnlyMetrics: isOnlyMetrics)
    if isProblemKnown { logger.notice("The cloud takes state reports again") }
    isProblemKnown = false
    logger.info("Reported current state to the cloud")
    saveCache()
    onContact()
  }

  private func failed(_ failure: CloudFailure) async {
    isProblemKnown = true
    hasChanged = true
    if failure.isRefusal {
      refusals.refused()
      if refusals.isWithoutApps, knownRefusal != failure.message {
        knownRefusal = failure.message
        host.systemLog("The cloud refuses this device's state reports: \(failure)", isError: true)
      }
    }
    var random = SystemRandomNumberGenerator()
    backOff.limit = client.pollInterval
    let delay = backOff.fail(failure.advice, using: &random)
    logger.error("Device state report failure! \(failure)")
    logger.info("Retrying device state report in \(delay.seconds) seconds")
    // Changes do not shorten the back-off; the report that follows has them.
    let end = Self.now + delay
    while Self.now < end, !Task.isCancelled { await alarm.wait(end - Self.now) }
    hasChanged = true
  }

  /// While it is not known what runs, the apps are as they were reported.
  private func document() async -> JSONObject {
    var fields = host.deviceFields
    for (name, value) in await host.metrics() { fields[name] = value }
    fields = ReportDifference.steady(fields, accepted: accepted)
    if !host.isLocalMode {
      fields["logs_channel"] = .null
      if let apps = host.reportedApps {
        fields["apps"] = .object(apps)
      } else {
        fields["apps"] = accepted["apps"]
      }
    }
    return fields
  }

  // MARK: Cache

  func loadCache() {
    let audience = client.audience
    self.audience = audience
    accepted = [:]
    guard let bytes = try? DurableFile.read(host.reportCachePath) else { return }
    if let cache = ReportCache(parsing: bytes, for: audience) {
      accepted = cache.accepted
    } else {
      // It holds a key, and the reference left it for all to read.
      unlink(host.reportCachePath)
    }
  }

  private func saveCache() {
    guard let audience else { return }
    let cache = ReportCache(audience: audience, accepted: accepted)
    do throws(FileError) {
      try DurableFile.makeDirectories(for: host.reportCachePath)
      try DurableFile.write(cache.bytes, to: host.reportCachePath, keepsMode: false)
    } catch {
      logger.debug("The last report is not kept: \(error)")
    }
  }
}
