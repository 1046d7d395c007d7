import Database
import EventLoop
import HostConfiguration
import JSON
import Logging

/// A tag as the cloud keeps it.
public nonisolated struct CloudTag: Sendable, Hashable {
  public let id: Int
  public let name: String
  public let value: String
}

/// Which tags have to be written (cloud 5.1). Pure.
public nonisolated struct TagQueue: Sendable, Hashable {
  /// Wanted, and not yet accepted by the cloud.
  public private(set) var wanted: [String: String]
  /// Accepted.
  public private(set) var reported: [String: String]

  public init(wanted: [String: String] = [:], reported: [String: String] = [:]) {
    self.wanted = wanted
    self.reported = reported
  }

  public mutating func set(_ tags: [String: String]) {
    for (name, value) in tags {
      if wanted[name] == nil, reported[name] == value { continue }
      wanted[name] = value
    }
  }

  /// What differs from what the cloud has.
  public var pending: [String: String] { wanted.filter { reported[$0.key] != $0.value } }

  /// The cloud has taken these. A value that was set meanwhile stays wanted.
  public mutating func accepted(_ tags: [String: String]) {
    for (name, value) in tags {
      reported[name] = value
      if wanted[name] == value { wanted[name] = nil }
    }
  }

  /// Another cloud, or another device of it: nothing is reported there.
  public mutating func forgetReported() { reported = [:] }

  /// The cloud will never take this one.
  public mutating func drop(_ name: String) { wanted[name] = nil }

  /// Names that the cloud keeps for itself.
  public static func isReserved(_ name: String) -> Bool {
    name.isEmpty || name.hasPrefix("io.resin.") || name.hasPrefix("io.balena.")
  }
}

/// Writes the tags that the device's services set.
final class TagReporter {
  private let client: CloudClient
  private let store: Store
  private let logger: Logger
  private let alarm = Alarm()
  private var queue: TagQueue
  private var backOff: BackOff
  private var lastRequest: MonotonicTime?

  /// Bursts merge into the next request.
  static let spacing = Duration.seconds(10)
  /// Names in the database whom the tags were reported to.
  static let audienceKey = "reportedTagsAudience"

  init(_ client: CloudClient, store: Store, logger: Logger) {
    self.client = client
    self.store = store
    self.logger = logger
    backOff = BackOff(limit: client.pollInterval)
    queue = TagQueue(wanted: Self.map(.targetTags, client), reported: Self.map(.reportedTags, client))
  }

  private static func map(_ key: SettingKey, _ client: CloudClient) -> [String: String] {
    let members = client.settings.storedValue(of: key)?.objectValue ?? [:]
    return Dictionary(members.compactMap { name, value in value.stringValue.map { (name, $0) } }) { _, last in
      last
    }
  }

  func set(_ tags: [String: String]) throws(SettingError) {
    if client.settings.isProvisioned { meetAudience() }
    let former = queue
    queue.set(tags)
    do throws(SettingError) { try keep() } catch {
      queue = former
      throw error
    }
    alarm.ring()
  }

  /// Reads the device's tags from the cloud.
  func read() async throws(CloudFailure) -> [CloudTag] {
    let filter = "device%20eq%20\(client.settings.int(.deviceId))"
    let url = CloudAddress.resolve(
      "/v7/device_tag?$select=id,tag_key,value&$filter=\(filter)", on: client.base)
    let rows = try await client.rows(url, key: client.deviceKey)
    var tags: [CloudTag] = []
    for row in rows {
      guard let id = row["id"]?.intValue, let name = row["tag_key"]?.stringValue,
        let value = row["value"]?.stringValue
      else { throw CloudFailure("the cloud's answer has a tag without id, tag_key or value") }
      tags.append(CloudTag(id: id, name: name, value: value))
    }
    return tags
  }

  var pending: [String: String] { queue.pending }

  /// Forgets what another cloud has been told. An agent of before did not say whom that was.
  func meetAudience() {
    let audience = client.audience.text
    do throws(DatabaseError) {
      let former = try store.settings.text(Self.audienceKey)
      guard former != audience, former != nil || !queue.reported.isEmpty else { return }
      if former != nil {
        queue.forgetReported()
        persist()
      }
      try store.settings.set(Self.audienceKey, to: audience)
    } catch {
      logger.error("Cannot keep whom the device's tags were reported to: \(error)")
    }
  }

  func run() async {
    meetAudience()
    var random = SystemRandomNumberGenerator()
    while !Task.isCancelled {
      let pending = queue.pending
      if pending.isEmpty {
        await alarm.wait(nil)
        continue
      }
      if let lastRequest {
        let rest = lastRequest + Self.spacing - .read()
        if rest > .zero {
          await alarm.wait(rest)
          continue
        }
      }
      lastRequest = .read()
      do throws(CloudFailure) {
        try await send(pending)
        backOff.succeed()
      } catch {
        backOff.limit = client.pollInterval
        let delay = backOff.fail(error.advice, using: &random)
        logger.error("Event: Device tags report failure: \(error); next try in \(delay.seconds) s")
        let end = MonotonicTime.read() + delay
        while MonotonicTime.read() < end, !Task.isCancelled { await alarm.wait(end - .read()) }
      }
    }
  }

  private func send(_ tags: [String: String]) async throws(CloudFailure) {
    let answer = try await client.send(
      "PATCH", CloudAddress.resolve("/device/v3/tags", on: client.endpoint), key: client.deviceKey,
      body: .object([client.uuid: JSON(tags)]))
    if answer.status == 400 { return try await isolate(tags) }
    guard answer.isSuccess else { throw client.failure(answer, of: "PATCH /device/v3/tags") }
    queue.accepted(tags)
    persist()
    meetAudience()
    logger.info("Reported device tags to the cloud")
  }

  /// One tag that the cloud does not take must not hold up the others: reserved names go, the rest is
  /// halved until the culprit is alone.
  private func isolate(_ tags: [String: String]) async throws(CloudFailure) {
    let reserved = tags.keys.filter(TagQueue.isReserved)
    if !reserved.isEmpty || tags.count == 1 {
      for name in reserved.isEmpty ? Array(tags.keys) : reserved {
        logger.warning("The cloud does not take the tag '\(name)': it is dropped")
        queue.drop(name)
      }
      return persist()
    }
    let names = tags.keys.sorted()
    for half in [names.prefix(names.count / 2), names.suffix(names.count - names.count / 2)] {
      try await send(tags.filter { half.contains($0.key) })
    }
  }

  private func persist() {
    do throws(SettingError) { try keep() } catch { logger.error("Cannot keep the device's tags: \(error)") }
  }

  private func keep() throws(SettingError) {
    try client.settings.setRows([.targetTags: JSON(queue.wanted), .reportedTags: JSON(queue.reported)])
  }
}
