import Database
import Model
import Testing

@testable import StateEngine

/// Service list, hand-over, release status and the views of the local API (state-engine 8).
struct StatusReportTests {
  private let old = service("main", image: "one", release: 1)
  private let new = service("main", image: "two", release: 2)

  private func image(
    _ service: Service, _ status: ImageReport.Status = .downloaded, progress: Int? = nil
  ) -> ImageReport {
    ImageReport(image: StoredImage(for: service), status: status, progress: progress)
  }

  private func report(
    images: [ImageReport] = [], containers: [Service] = [], targets: [App] = []
  ) -> StatusReport {
    StatusReport(images: images, containers: containers, targets: targets.map(TargetOutline.init))
  }

  // MARK: - The service list

  @Test func aRunningTaskHidesTheRowsOfItsName() {
    let list = ImageReport.list(
      available: [StoredImage(for: old), StoredImage(for: new)],
      tasks: [ImageTask(image: StoredImage(for: new), kind: .downloading(progress: 7))])
    #expect(list.map(\.status) == [.downloading, .downloaded])
    #expect(list.map(\.progress) == [7, nil])
  }

  @Test func theContainersStatusReplacesTheImagesAndAContainerWithoutAnImageIsNotReported() {
    let report = report(images: [image(old)], containers: [container(of: old), container(of: new)])
    #expect(report.services.map(\.status) == ["Running"])
    #expect(report.services.map(\.commit) == ["commit1"])
  }

  @Test func theImageOfAFormerReleaseThatNothingRunsIsNotReportedAsDownloaded() {
    let between = report(images: [image(old), image(new)], targets: [app(release: 2, [new])])
    #expect(between.services.map(\.commit) == ["commit2"])
    let before = report(
      images: [image(old), image(new)], containers: [container(of: old)], targets: [app(release: 2, [new])])
    #expect(before.services.map(\.status) == ["Running", "Downloaded"])
    let gone = report(images: [image(old, .deleting), image(new)], targets: [app(release: 2, [new])])
    #expect(gone.services.map(\.status) == ["Deleting", "Downloaded"])
  }

  @Test func aTargetServiceThatHasNothingYetIsDownloading() {
    let report = report(targets: [app(release: 2, [new])])
    #expect(report.services.map(\.status) == ["Downloading"])
    #expect(report.services.map(\.progress) == [0])
    #expect(report.updateStatus(appId: 1, commit: "commit2") == .downloading)
  }

  @Test func runningContainersOfTwoReleasesHandOver() {
    let report = report(
      images: [image(old), image(new)],
      containers: [container(of: new, createdAt: 20), container(of: old, createdAt: 10)])
    #expect(report.services.map(\.status) == ["Handing over", "Awaiting handover"])
    #expect(report.updateStatus(appId: 1, commit: "commit2") == .applyingChanges)
  }

  // MARK: - The status of a release

  @Test(arguments: [
    ([ServiceStatus.running], nil, UpdateStatus.done),
    ([.engine("exited"), .starting], nil, .done),
    ([.running, .installed], nil, .applyingChanges),
    ([.installing], nil, .applyingChanges),
    ([.running], 40, .downloading),
    ([.running], 100, .downloaded),
  ])
  func aReleaseIsAsFarAsTheServiceThatIsFurthestBehind(
    statuses: [ServiceStatus], progress: Int?, expected: UpdateStatus
  ) {
    var images: [ImageReport] = []
    var containers: [Service] = []
    for (index, status) in statuses.enumerated() {
      let service = service("s\(index)")
      images.append(image(service))
      containers.append(container(of: service, status: status))
    }
    if let progress {
      let status = progress == 100 ? ImageReport.Status.downloaded : .downloading
      images.append(image(service("late"), status, progress: progress))
    }
    let report = report(images: images, containers: containers)
    #expect(report.updateStatus(appId: 1, commit: "commit1") == expected)
  }

  @Test func aRejectedAppIsRejectedInAllItsReleases() {
    var rejected = app(release: 2, [new])
    rejected.isRejected = true
    let report = report(images: [image(old)], containers: [container(of: old)], targets: [rejected])
    #expect(report.updateStatus(appId: 1, commit: "commit1") == .rejected)
    #expect(report.applicationStates { _ in true }.map(\.services.count) == [0])
  }

  // MARK: - Views

  @Test func applicationStatesShowTheTargetCommitOnlyAndCoveredAppsOnly() {
    let other = service("main", app: 2)
    let report = report(
      images: [image(old), image(new, .downloading, progress: 7)], containers: [container(of: old)],
      targets: [app(release: 2, [new]), app(2, [other])])
    let states = report.applicationStates { $0 == 1 }
    #expect(states.map(\.name) == ["app1"])
    #expect(states.first?.updateStatus == .downloading)
    #expect(states.first?.services.map(\.progress) == [7])
  }

  @Test func theDetailOfAnAppIsByImageIdContainersFirst() {
    let waiting = service("waiting", image: "two")
    let report = report(images: [image(old), image(waiting)], containers: [container(of: old)])
    let detail = report.applicationDetail(appId: 1, commits: [:])
    #expect(detail.commit == nil)
    #expect(detail.services.map(\.status) == ["Running", "Downloaded"])
    #expect(detail.services.map(\.imageId) == [old.imageId, waiting.imageId])
  }

  @Test func twoContainersOfOneImageIdAreAHandoverOfTheOlderRelease() {
    var newer = container(of: old, createdAt: 20)
    newer.releaseId = 9
    let report = report(containers: [newer, container(of: old, createdAt: 10)])
    let services = report.applicationDetail(appId: 1, commits: [1: "commit1"]).services
    #expect(services.map(\.status) == ["Handing over"])
    #expect(services.map(\.releaseId) == [1])
  }

  @Test func theStateStatusIsOfTheFirstCoveredContainersAppWithTheProgressOfAll() {
    let second = service("main", app: 2, image: "two")
    let report = report(
      images: [image(old, .downloading, progress: 10), image(second, .downloading, progress: 25)],
      containers: [container(of: second)])
    let all = report.stateStatus(commits: [2: "c2"]) { _ in true }
    #expect(all.overallDownloadProgress == 17.5)
    #expect(all.containers.map(\.appId) == [2])
    #expect(all.images.map(\.image.appId) == [2])
    #expect(all.release == "c2")
    let first = report.stateStatus(commits: [2: "c2"]) { $0 == 1 }
    #expect(first.images.map(\.image.appId) == [1])
    #expect(first.containers.isEmpty)
    #expect(first.release == nil)
    #expect(report.stateStatus(commits: [:]) { _ in false }.images.isEmpty)
  }

  @Test func theDeviceSummaryIsOfTheLowestAppAndImageIdAndRunningIsIdle() {
    let report = report(
      containers: [
        container(of: service("main", app: 2)), container(of: service("b"), status: .stopping),
        container(of: service("a")),
      ])
    let summary = report.deviceSummary(commits: [1: "commit1"])
    #expect(summary?.appId == 1)
    #expect(summary?.status == "Idle")
    #expect(summary?.commit == "commit1")
    #expect(StatusReport(images: [], containers: [], targets: []).deviceSummary(commits: [:]) == nil)
  }
}

/// RFC 3339 as the engine writes it.
struct TimestampTests {
  @Test(arguments: [
    ("1970-01-01T00:00:00Z", 0, 0), ("2000-02-29T12:00:00Z", 951_825_600, 0),
    ("2020-11-13T20:29:44.143Z", 1_605_299_384, 143_000_000),
    ("2020-11-13T21:29:44.1+01:00", 1_605_299_384, 100_000_000),
    ("2020-11-13T20:29:44.123456789123Z", 1_605_299_384, 123_456_789),
    ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
  ])
  func isRead(text: String, seconds: Int64, nanoseconds: Int32) {
    #expect(Timestamp(text) == Timestamp(seconds: seconds, nanoseconds: nanoseconds))
  }

  @Test(arguments: [
    "", "2020-11-13", "2020-13-13T00:00:00Z", "2020-11-13T20:29:44", "2020-11-13T20:29:44.Z",
    "2020-11-13T20:29:44Zx",
  ])
  func isRefused(text: String) { #expect(Timestamp(text) == nil) }

  @Test func aWholeSecondComesBeforeItsFraction() throws {
    let whole = try #require(Timestamp("2020-11-13T20:29:44Z"))
    let fraction = try #require(Timestamp("2020-11-13T20:29:44.1Z"))
    #expect(whole < fraction)
  }
}
