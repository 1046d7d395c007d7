import HostConfiguration
import JSON
import TestSupport
import Testing

@testable import Cloud

/// What one cloud has been told is not known to another one (cloud 3.5, 5.1).
struct AudienceTests {
  private let first = ReportAudience(endpoint: "https://a", uuid: "ab", deviceId: 1)

  private func config(_ endpoint: String, id: Int) -> String {
    #"{"apiEndpoint":"\#(endpoint)","uuid":"ab","deviceApiKey":"key","deviceId":\#(id),"registered_at":1}"#
  }

  @Test func aKeptReportCountsForTheSameCloudAndDeviceOnly() {
    let bytes = ReportCache(audience: first, accepted: ["status": "Idle"]).bytes
    #expect(ReportCache(parsing: bytes, for: first)?.accepted == ["status": "Idle"])
    var other = first
    other.endpoint = "https://b"
    #expect(ReportCache(parsing: bytes, for: other) == nil)
    other = first
    other.uuid = "cd"
    #expect(ReportCache(parsing: bytes, for: other) == nil)
    other = first
    other.deviceId = 2
    #expect(ReportCache(parsing: bytes, for: other) == nil)
  }

  @Test func aReportThatNobodySaysWhomItWasMadeToAndADamagedOneDoNotCount() {
    #expect(ReportCache(parsing: Array(#"{"ab":{"status":"Idle"}}"#.utf8), for: first) == nil)
    #expect(ReportCache(parsing: Array("{".utf8), for: first) == nil)
    let nulls = ReportCache(audience: first, accepted: ["cpu_usage": .null])
    #expect(ReportCache(parsing: nulls.bytes, for: first) == nil)
  }

  @Test(arguments: [("https://b", 1), ("https://a", 2)])
  func anotherCloudAndAnotherDeviceGetTheirTagsAgain(endpoint: String, id: Int) async throws {
    let device = try await CloudFixture(config("https://a", id: 1))
    try await device.settings.set([.reportedTags: ["one": "1"]])
    let reporter = TagReporter(device.client, store: device.store, logger: quiet)
    reporter.meetAudience()
    try reporter.set(["one": "1"])
    #expect(reporter.pending.isEmpty)
    await device.join(config(endpoint, id: id))
    try reporter.set(["one": "1"])
    #expect(reporter.pending == ["one": "1"])
  }

  private func reporter(_ device: CloudFixture) -> StateReporter {
    StateReporter(device.client, host: device, logger: quiet)
  }

  @Test func aCacheOfAnotherCloudIsTakenAway() async throws {
    let device = try await CloudFixture(config("https://a", id: 1))
    write(#"{"ab":{"api_secret":"secret"}}"#, to: device.reportCachePath)
    reporter(device).loadCache()
    #expect(!device.scratch.names.contains("state-report-cache"))
    write(ReportCache(audience: first, accepted: ["status": "Idle"]).bytes, to: device.reportCachePath)
    reporter(device).loadCache()
    #expect(device.scratch.names.contains("state-report-cache"))
  }
}
