import JSON
import Testing

@testable import Cloud

/// What is reported, and when (cloud 3.2 to 3.4, W8).
struct ReportTests {
  private let apps: JSON = ["a": ["releases": ["c": ["services": ["main": ["status": "Running"]]]]]]

  private func difference(_ old: JSONObject, _ new: JSONObject) -> JSONObject {
    ReportDifference.fields(from: old, to: new)
  }

  @Test func aFirstReportIsWholeAndAnUnchangedOneEmpty() {
    let state: JSONObject = ["status": "Idle", "apps": apps, "provisioning_progress": .null]
    #expect(difference([:], state) == state)
    #expect(difference(state, state).isEmpty)
  }

  @Test func aChangedFieldIsSentWholeAndAVanishedOneIsAbsent() {
    let old: JSONObject = ["status": "Idle", "apps": apps, "ip_address": "1.2.3.4"]
    let new: JSONObject = [
      "status": "Idle", "apps": ["b": ["releases": ["d": ["services": ["x": ["s": 1]]]]]],
    ]
    #expect(difference(old, new) == ["apps": ["b": ["releases": ["d": ["services": ["x": ["s": 1]]]]]]])
  }

  @Test func emptyObjectsAreLeftOutAtAnyDepthAndNullsAndEmptyArraysStay() {
    let new: JSONObject = [
      "apps": [
        "a": ["releases": ["c": ["services": [:], "update_status": "rejected"]]], "b": ["releases": [:]],
      ],
      "none": [:], "null": .null, "list": [],
    ]
    #expect(
      difference([:], new) == [
        "apps": ["a": ["releases": ["c": ["update_status": "rejected"]]]], "null": .null, "list": [],
      ])
  }

  @Test func metricsKeepTheirValueWithinABucket() {
    let accepted: JSONObject = ["cpu_usage": 39, "cpu_temp": 54, "memory_usage": 19]
    #expect(
      ReportDifference.steady(["cpu_usage": 20, "cpu_temp": 50, "memory_usage": 10], accepted: accepted)
        == accepted)
    let moved: JSONObject = ["cpu_usage": 40, "cpu_temp": 55, "memory_usage": 20]
    #expect(ReportDifference.steady(moved, accepted: accepted) == moved)
    #expect(ReportDifference.steady(["cpu_usage": 40], accepted: [:]) == ["cpu_usage": 40])
  }

  @Test func onlyTheEightMetricsAreMetrics() {
    #expect(
      ReportDifference.isOnlyMetrics(["cpu_usage": 1, "storage_block_device": "/dev/x", "cpu_id": "1"]))
    #expect(!ReportDifference.isOnlyMetrics(["cpu_usage": 1, "is_undervolted": true]))
  }

  @Test func changesAreTenSecondsApartAndMetricsFiveMinutes() {
    var throttle = ReportThrottle(uuid: "ab")
    #expect(throttle.delayOfChange(at: .seconds(5)) == .zero)
    #expect(throttle.delayOfMetrics(at: .seconds(5)) == .zero)
    throttle.accepted(at: .seconds(100), isOnlyMetrics: false)
    #expect(throttle.delayOfChange(at: .seconds(103)) == .seconds(7))
    #expect(throttle.delayOfChange(at: .seconds(111)) == .zero)
    let metrics = throttle.delayOfMetrics(at: .seconds(100))
    #expect(metrics >= .seconds(300) && metrics < .seconds(600))
    throttle.accepted(at: .seconds(1000), isOnlyMetrics: true)
    #expect(throttle.delayOfMetrics(at: .seconds(1001)) == .seconds(299))
  }

  @Test func aFleetThatChangesAtOnceSpreadsItsMetrics() {
    var bins = [Int](repeating: 0, count: 30)
    for number in 0..<30_000 {
      var throttle = ReportThrottle(uuid: String(number, radix: 16))
      throttle.accepted(at: .zero, isOnlyMetrics: false)
      let delay = throttle.delayOfMetrics(at: .zero) - ReportThrottle.metricsSpacing
      bins[Int(delay.components.seconds) / 10] += 1
      // At each start the same.
      var again = ReportThrottle(uuid: String(number, radix: 16))
      again.accepted(at: .zero, isOnlyMetrics: false)
      #expect(again == throttle)
    }
    #expect(bins.allSatisfy { (500...1500).contains($0) }, "\(bins)")
  }

  @Test func aLookWithoutAReportHoldsUpNoChange() {
    var throttle = ReportThrottle(uuid: "ab")
    throttle.looked(at: .seconds(100))
    #expect(throttle.delayOfChange(at: .seconds(100)) == .zero)
    #expect(throttle.delayOfMetrics(at: .seconds(100)) == .seconds(300))
    throttle.accepted(at: .seconds(200), isOnlyMetrics: false)
    let next = throttle.delayOfMetrics(at: .seconds(201))
    throttle.looked(at: .seconds(201))
    #expect(throttle.delayOfMetrics(at: .seconds(201)) == next)
  }

  @Test func afterThreeRefusalsEverySecondReportGoesWithoutApps() {
    var refusals = ReportRefusals()
    var sent: [Bool] = []
    for _ in 0..<8 {
      sent.append(!refusals.isWithoutApps)
      // The cloud takes what has no apps in it.
      if refusals.isWithoutApps { refusals.succeed() } else { refusals.refused() }
    }
    #expect(sent == [true, true, true, false, true, false, true, false])
    refusals.succeed()
    refusals.refused()
    refusals.refused()
    #expect(!refusals.isWithoutApps)
  }
}
