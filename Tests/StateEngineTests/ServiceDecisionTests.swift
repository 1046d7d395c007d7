import Database
import Model
import Testing

@testable import StateEngine

/// What becomes of one service (state-engine 3.4 to 3.6 and 4).
struct ServiceDecisionTests {
  private let old = service("main", image: "one")
  private let new = service("main", image: "two", release: 2)
  private let locks: [Int: Set<String>] = [1: ["main", "a", "b"]]

  private func plan(
    _ current: [Service], _ target: [Service], images: [Service]? = nil, isLocked: Bool = true,
    _ change: (inout PlannerInput) -> Void = { _ in }
  ) -> Plan {
    let release = target.first?.releaseId ?? 1
    var planned = input(current: [app(current)], target: [app(release: release, target)], images: images)
    if isLocked { planned.locks = locks }
    planned.commits = [1: "commit\(release)"]
    planned.keepImages = true
    change(&planned)
    return Planner.plan(planned)
  }

  // MARK: - Containers as they are

  @Test func aDeadContainerIsRemovedWithoutALockAndReplacedWhenItHasGone() {
    let dead = plan([container(of: old, status: .dead)], [old], isLocked: false)
    #expect(dead.names == ["remove"])
    #expect(dead.waits(of: "main") == [.removal])
  }

  @Test func aStoppingContainerIsWaitedFor() {
    let waiting = plan([container(of: old, status: .stopping)], [new])
    #expect(waiting.steps.isEmpty)
    #expect(waiting.waits(of: "main") == [.stopping])
    #expect(!waiting.isSettled)
  }

  @Test func anExitedContainerOfTheSameConfigurationIsLeftAlone() {
    #expect(plan([container(of: old, status: .engine("exited"))], [old], isLocked: false).steps.isEmpty)
  }

  @Test func anExitedContainerThatTheAgentItselfStoppedIsStartedWithoutALock() {
    let exited = container(of: old, status: .engine("exited"), id: "mine")
    let started = plan([exited], [old], isLocked: false) { $0.ownStops = ["mine"] }
    #expect(started.names == ["start"])
    #expect(started.steps.first?.reason == .rule(.stoppedByAgent))
    #expect(plan([exited], [old], isLocked: false) { $0.ownStops = ["other"] }.steps.isEmpty)
  }

  @Test func aContainerThatTheAgentStoppedIsReplacedWhenTheTargetIsAnotherAndStaysStoppedWhenItShallNotRun() {
    let exited = container(of: old, status: .engine("exited"), id: "mine")
    #expect(plan([exited], [new]) { $0.ownStops = ["mine"] }.names == ["kill"])
    let idle = service("main", image: "one", running: false)
    #expect(plan([exited], [idle], isLocked: false) { $0.ownStops = ["mine"] }.steps.isEmpty)
  }

  @Test func aContainerThatTheAgentStoppedIsRenamedAndThenStarted() {
    let exited = container(of: old, status: .engine("exited"), id: "mine")
    let next = service("main", image: "one", release: 2)
    #expect(plan([exited], [next]) { $0.ownStops = ["mine"] }.names == ["updateMetadata"])
  }

  @Test func anOldContainerOfAHandOverGoesWhenTheNewOneWaitsForANetworkThatBothUse() {
    var previous = container(of: service("main", image: "one", strategy: .handOver), createdAt: 1)
    let name = "old_\(previous.containerName)"
    previous.container?.name = name
    let next = service("main", image: "two", release: 2, strategy: .handOver)
    let planned = plan([previous, container(of: next, status: .installed)], [next]) {
      $0.current[0].networks.append(network("default"))
    }
    #expect(planned.names == ["kill"])
  }

  /// What is planned for the two containers of a hand-over, the old one told to make room.
  private func handOver(startError: String, createdAt: (old: Int, new: Int) = (1, 2)) -> Plan {
    var previous = container(
      of: service("main", image: "one", strategy: .handOver), createdAt: createdAt.old, id: "old")
    let name = "old_\(previous.containerName)"
    previous.container?.name = name
    let next = service("main", image: "two", release: 2, strategy: .handOver)
    var new = container(of: next, status: .installed, createdAt: createdAt.new, id: "new")
    new.container?.startError = startError
    return plan([previous, new], [next]) { $0.current[0].networks = [network("default")] }
  }

  @Test func anOldContainerOfAHandOverGoesFirstWhenTheNewOneNeedsItsPortOrItsAddress() {
    for error in [
      "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
      "Address already in use", "listen tcp4 0.0.0.0:80: bind: address already in use",
    ] {
      let planned = handOver(startError: error)
      #expect(planned.names == ["kill"])
      guard case .kill(let killed)? = planned.steps.first?.step else { continue }
      #expect(killed.container?.id == "old")
      #expect(planned.waits(of: "main") == [.removal])
    }
    #expect(handOver(startError: "").names == ["start"])
    #expect(handOver(startError: "no such device").names == ["start"])
  }

  @Test func aContainerThatWasToldToMakeRoomIsTheOlderOneWhateverTheClockSays() {
    let planned = handOver(startError: "", createdAt: (old: 20, new: 10))
    #expect(planned.names == ["start"])
    guard case .start(_, let started)? = planned.steps.first?.step else { return }
    #expect(started?.id == "new")
  }

  @Test func aServiceWhoseOwnNameBeginsLikeThatHandsNothingOver() {
    let settled = service("old_main")
    #expect(plan([container(of: settled)], [settled], isLocked: false).steps.isEmpty)
  }

  @Test func aContainerThatWasNeverStartedIsStartedWithoutALock() {
    let started = plan([container(of: old, status: .installed)], [old], isLocked: false)
    #expect(started.names == ["start"])
    #expect(started.steps.first?.reason == .rule(.containerNeverStarted))
  }

  @Test func aStartThatFailedOnAnAddressIsTriedAgain() {
    var exited = container(of: old, status: .engine("exited"))
    exited.container?.startError =
      "driver failed: Error starting userland proxy: listen tcp4 10.0.0.9:80: bind: Cannot assign requested address"
    #expect(plan([exited], [old], isLocked: false).names == ["start"])
    exited.container?.startError += " again"
    #expect(plan([exited], [old], isLocked: false).steps.isEmpty)
  }

  @Test func aServiceThatShallNotRunIsCreatedOrStoppedButNotStarted() {
    let idle = service("main", running: false)
    #expect(plan([], [idle]).names == ["start"])
    #expect(plan([container(of: idle, status: .installed)], [idle], isLocked: false).steps.isEmpty)
    #expect(plan([container(of: old)], [idle]).names == ["stop"])
    #expect(plan([container(of: old)], [idle], isLocked: false).names == ["takeLock"])
    #expect(plan([container(of: old, status: .engine("exited"))], [idle], isLocked: false).steps.isEmpty)
  }

  @Test func aNewCommitOfTheSameConfigurationRenamesTheContainer() {
    let renamed = service("main", release: 2)
    let result = plan([container(of: old)], [renamed])
    #expect(result.names == ["updateMetadata"])
    #expect(
      result.steps.first?.reason
        == .differences([Difference(field: "commit", current: "commit1", target: "commit2")]))
    #expect(plan([container(of: old)], [renamed], isLocked: false).names == ["takeLock"])
  }

  @Test func newIdsAloneChangeNothing() {
    var renumbered = old
    renumbered.releaseId = 7
    renumbered.imageId = 77
    #expect(plan([container(of: old)], [renumbered], images: [old, renumbered]).names == ["releaseLock"])
  }

  @Test func theReasonOfAReplacementNamesFieldOldAndNewValue() {
    var relabelled = old
    relabelled.config.labels["color"] = "red"
    let result = plan([container(of: old)], [relabelled])
    #expect(result.names == ["kill"])
    #expect(
      result.steps.first?.reason
        == .differences([Difference(field: "labels.color", current: "(none)", target: "red")]))
    #expect(result.steps.first?.reason.description == "labels.color: (none) -> red")
  }

  @Test func theOlderOfTwoContainersIsKilledAndTheNewerLeftAlone() {
    let older = container(of: old, createdAt: 10, id: "older")
    let newer = container(of: old, createdAt: 20, id: "newer")
    let result = plan([newer, older], [old])
    #expect(result.names == ["kill"])
    guard case .kill(let killed) = result.steps.first?.step else { return }
    #expect(killed.container?.id == "older")
    #expect(plan([newer, older], [old], isLocked: false).names == ["takeLock"])
  }

  @Test func aSecondContainerIsKilledEvenIfTheNextImageIsMissing() {
    let older = container(of: old, createdAt: 10, id: "older")
    let newer = container(of: old, createdAt: 20, id: "newer")
    #expect(plan([newer, older], [new], images: [old]).names == ["kill"])
  }

  @Test func theMarksOfALegacyContainerAreNotADifference() {
    var legacy = container(of: old)
    legacy.config.labels["io.balena.legacy-container"] = "1"
    legacy.config.labels["io.balena.service-id"] = "5"
    #expect(plan([legacy], [old], isLocked: false).steps.isEmpty)
  }

  // MARK: - download-then-kill

  @Test func allImagesArePresentBeforeTheFirstKillThenAllGoTogether() {
    let oldPair = [container(of: service("a")), container(of: service("b"))]
    let a = service("a", image: "two", release: 2)
    let b = service("b", image: "three", release: 2)
    let fetching = plan(oldPair, [a, b], images: [service("a")], isLocked: false)
    #expect(fetching.names == ["fetch", "fetch"])
    let half = plan(oldPair, [a, b], images: [service("a"), a]) { $0.downloading = [imageName("three")] }
    #expect(half.steps.isEmpty)
    #expect(half.waits(of: "a") == [.images(services: ["b"])])
    #expect(half.waits(of: "b") == [.download(image: imageName("three"))])
    #expect(plan(oldPair, [a, b], isLocked: false).names == ["takeLock"])
    #expect(plan(oldPair, [a, b]).names == ["kill", "kill"])
  }

  @Test func aServiceThatTheReleaseDropsWaitsForTheImagesToo() {
    let current = [container(of: service("a")), container(of: service("b"))]
    let a = service("a", image: "two", release: 2)
    let result = plan(current, [a], images: [service("a")])
    #expect(result.names == ["fetch"])
    #expect(result.waits(of: "b") == [.images(services: ["a"])])
  }

  // MARK: - kill-then-download, delete-then-download

  @Test func killThenDownloadKillsFirst() {
    let target = service("main", image: "two", release: 2, strategy: .killThenDownload)
    #expect(plan([container(of: old)], [target], images: [old]).names == ["kill"])
    #expect(plan([], [target], images: [old]).names == ["fetch"])
  }

  @Test func deleteThenDownloadDeletesTheOldImageBeforeTheDownload() {
    let target = service("main", image: "two", release: 2, strategy: .deleteThenDownload)
    #expect(plan([container(of: old)], [target], images: [old]) { $0.keepImages = false }.names == ["kill"])
    #expect(plan([], [target], images: [old]) { $0.keepImages = false }.names == ["removeImage"])
    #expect(plan([], [target], images: []) { $0.keepImages = false }.names == ["fetch"])
    #expect(plan([], [target], images: [old]).names == ["fetch"])
  }

  @Test func mixedStrategiesKillEarlyButStartNothingBeforeAllImages() {
    let a = service("a", image: "two", release: 2, strategy: .killThenDownload)
    let b = service("b", image: "three", release: 2)
    let current = [container(of: service("a")), container(of: service("b"))]
    #expect(plan(current, [a, b], images: [service("a")]).names == ["kill", "fetch"])
    let downloaded = plan([container(of: service("b"))], [a, b], images: [service("a"), a])
    #expect(downloaded.names == ["fetch"])
    #expect(downloaded.waits(of: "a") == [.images(services: ["b"])])
  }

  // MARK: - hand-over

  private let handover = service("main", image: "two", release: 2, strategy: .handOver)

  private func renamed(_ container: Service) -> Service {
    let name = "old_" + container.containerName
    var container = container
    container.container?.name = name
    return container
  }

  @Test func aHandoverNeedsTheImageThenTheLock() {
    #expect(plan([container(of: old)], [handover], images: [old]).names == ["fetch"])
    #expect(plan([container(of: old)], [handover], isLocked: false).names == ["takeLock"])
    #expect(plan([container(of: old)], [handover]).names == ["handover"])
  }

  @Test func theOldContainerStaysUntilTheHandoverIsComplete() {
    let before = renamed(container(of: old, createdAt: 10, id: "before"))
    let after = container(of: handover, createdAt: 20)
    let waiting = plan([before, after], [handover]) { $0.handovers = ["before"] }
    #expect(waiting.steps.isEmpty)
    #expect(waiting.waits(of: "main") == [.handover])
    let complete = plan([before, after], [handover])
    #expect(complete.names == ["kill"])
    #expect(complete.steps.first?.reason == .rule(.handedOver))
  }

  @Test func aNewerTargetEndsTheHandoverAtOnce() {
    let before = renamed(container(of: old, createdAt: 10, id: "before"))
    let after = container(of: handover, createdAt: 20)
    let newer = service("main", image: "three", release: 3, strategy: .handOver)
    let result = plan([before, after], [newer]) { $0.handovers = ["before"] }
    guard case .kill(let killed) = result.steps.last?.step else {
      Issue.record("no kill in \(result.names)")
      return
    }
    #expect(killed.container?.id == "before")
    #expect(result.steps.last?.reason == .rule(.handoverUnwanted))
  }

  @Test func aTargetThatIsWhatHandsOverKeepsItAndGivesItsNameBack() {
    let previous = service("main", image: "one", strategy: .handOver)
    var before = renamed(container(of: previous, createdAt: 10, id: "before"))
    before.config.restart = "no"
    let after = container(of: handover, createdAt: 20, id: "after")
    let result = plan([before, after], [previous]) { $0.handovers = ["before"] }
    guard case .kill(let killed) = result.steps.first?.step, result.steps.count == 1 else {
      Issue.record("not one kill: \(result.names)")
      return
    }
    #expect(killed.container?.id == "after")
    let alone = plan([before], [previous])
    #expect(alone.names == ["updateMetadata"])
    #expect(alone.steps.first?.reason == .rule(.handoverTakenBack))
  }

  @Test func anInterruptedHandoverStartsTheNewContainerBeforeTheOldOneGoes() {
    let before = renamed(container(of: old, createdAt: 10, id: "before"))
    let after = container(of: handover, status: .installed, createdAt: 20)
    #expect(plan([before, after], [handover]).names == ["start"])
  }

  @Test func anInterruptedHandoverToAnUnwantedReleaseKeepsTheContainerThatRuns() {
    let before = renamed(container(of: old, createdAt: 10, id: "before"))
    let unwanted = container(of: handover, status: .installed, createdAt: 20, id: "unwanted")
    let result = plan([before, unwanted], [old])
    guard case .kill(let killed) = result.steps.first?.step else {
      Issue.record("no kill in \(result.names)")
      return
    }
    #expect(killed.container?.id == "unwanted")
  }

  @Test func withNothingRunningThereIsNothingToHandOver() {
    #expect(plan([container(of: old, status: .engine("exited"))], [handover]).names == ["kill"])
  }

  // MARK: - Locks at rest

  @Test func theLocksGoWhileTheAppWaitsForADependencyThatIsOutOfReach() {
    let a = service("a")
    var unhealthy = container(of: a)
    unhealthy.container?.health = .unhealthy
    let b = service("b", dependsOn: [Dependency("a", .healthy)])
    #expect(plan([unhealthy], [a, b]).names == ["releaseLock"])
    unhealthy.container?.health = .starting
    #expect(plan([unhealthy], [a, b]).names == [])
  }

  @Test func theLocksGoWhileAnImageCannotBePulledUnlessTheServiceIsDownUntilItComes() {
    let target = service("main", image: "two", release: 2, strategy: .killThenDownload)
    let waiting = { (current: [Service], target: Service) in
      plan(current, [target], images: [old]) { $0.imageBackOff = [target.imageName] }
    }
    #expect(waiting([container(of: old)], new).names == ["releaseLock"])
    #expect(waiting([], target).names == [])
    #expect(waiting([], target).waits(of: "main") == [.imageBackOff(image: target.imageName)])
  }

  @Test func theLocksGoWhileTheNextTryIsFarAwayAndStayWhileItIsNear() {
    let near = plan([container(of: old)], [new]) { $0.pausedApps = [1] }
    #expect(near.names == [])
    let far = plan([container(of: old)], [new]) {
      $0.pausedApps = [1]
      $0.restingApps = [1]
    }
    #expect(far.names == ["releaseLock"])
  }

  @Test func theLocksGoWhenTheReleaseIsRejected() {
    #expect(plan([container(of: old)], [new]) { $0.target[0].isRejected = true }.names == ["releaseLock"])
  }

  // MARK: - Dependencies

  @Test func aServiceStartsAfterThoseItDependsOn() {
    let a = service("a")
    let b = service("b", dependsOn: ["a"])
    let first = plan([], [b, a])
    #expect(first.steps.map(\.service) == ["a"])
    #expect(first.waits(of: "b") == [.dependencies(["a"])])
    #expect(plan([container(of: a, status: .installed)], [b, a]).waits(of: "b") == [.dependencies(["a"])])
    #expect(plan([container(of: a)], [b, a]).steps.map(\.service) == ["b"])
  }

  @Test func aDependencyThatRanAndExitedOrIsUnknownCountsAsMet() {
    let a = service("a")
    let b = service("b", dependsOn: ["a", "unknown"])
    #expect(plan([container(of: a, status: .engine("exited"))], [b, a]).steps.map(\.service) == ["b"])
  }

  @Test func aDependencyThatShallNotRunIsMetWhenItExists() {
    let a = service("a", running: false)
    let b = service("b", dependsOn: ["a"])
    #expect(plan([container(of: a, status: .installed)], [b, a]).steps.map(\.service) == ["b"])
  }

  private func plan(
    after dependency: Dependency, _ status: ServiceStatus, exitCode: Int? = nil,
    health: ContainerHealth? = nil
  ) -> Plan {
    let a = service("a")
    var current = container(of: a, status: status)
    current.container?.exitCode = exitCode
    current.container?.health = health
    return plan([current], [service("b", dependsOn: [dependency]), a])
  }

  @Test func aDependencyOnHealthWaitsForTheHealthCheckToPass() {
    let dependency = Dependency("a", .healthy)
    for health in [nil, ContainerHealth.starting, .unhealthy] {
      let waiting = plan(after: dependency, .running, health: health)
      let cause: Waiting.Cause =
        health == .starting ? .dependencies([dependency]) : .dependenciesOutOfReach([dependency])
      #expect(waiting.names(of: "b").isEmpty && waiting.waits(of: "b") == [cause])
    }
    #expect(plan(after: dependency, .running, health: .healthy).steps.map(\.service) == ["b"])
    let ended = plan(after: dependency, .engine("exited"), exitCode: 0, health: .healthy)
    #expect(ended.names(of: "b").isEmpty)
  }

  @Test func aDependencyOnCompletionWaitsForExitCodeZero() {
    let dependency = Dependency("a", .completed)
    #expect(plan(after: dependency, .running, exitCode: 0).waits(of: "b") == [.dependencies([dependency])])
    #expect(
      plan(after: dependency, .engine("exited"), exitCode: 1).waits(of: "b")
        == [.dependenciesOutOfReach([dependency])])
    #expect(plan(after: dependency, .engine("exited"), exitCode: 0).steps.map(\.service) == ["b"])
  }

  @Test func aDependencyThatIsNotRequiredIsWaitedForWhileItCanBeMet() {
    let healthy = Dependency("a", .healthy, isRequired: false)
    #expect(plan(after: healthy, .running, health: .starting).steps.isEmpty)
    #expect(plan(after: healthy, .running, health: .unhealthy).steps.map(\.service) == ["b"])
    #expect(plan(after: healthy, .engine("exited"), health: .healthy).steps.map(\.service) == ["b"])
    let completed = Dependency("a", .completed, isRequired: false)
    #expect(plan(after: completed, .running).steps.isEmpty)
    #expect(plan(after: completed, .engine("exited"), exitCode: 1).steps.map(\.service) == ["b"])
  }

  @Test func aDependencyOfAnotherReleaseIsNotYetHealthy() {
    let a = service("a", release: 2, variant: 1)
    var current = container(of: service("a"))
    current.container?.health = .healthy
    let result = plan([current], [service("b", dependsOn: [Dependency("a", .healthy)]), a])
    #expect(result.steps.map(\.service) == ["a"])
  }

  @Test func independentServicesStartTogether() {
    #expect(plan([], [service("a"), service("b")]).names == ["start", "start"])
  }

  @Test func aCircleOfDependenciesPlansNothingAndSaysSo() {
    let a = service("a", release: 2, dependsOn: ["b"])
    let b = service("b", release: 2, dependsOn: ["a"])
    let result = plan([container(of: service("a"))], [a, b], isLocked: false)
    #expect(result.steps.isEmpty)
    #expect(result.apps[1]?.waiting == [Waiting(.dependencyCycle(["a", "b"]))])
    #expect(!result.isSettled)
  }

  // MARK: - Reboot

  private let rebooting = service("main", labels: ["io.balena.update.requires-reboot": "1"])

  @Test func aServiceThatAsksForARebootStartsAfterIt() {
    let installed = container(of: rebooting, status: .installed, createdAt: 100)
    let boot = Timestamp("2026-01-01T00:01:00Z") ?? Timestamp(seconds: 0)
    let asked = plan([installed], [rebooting], isLocked: false) { $0.reboot.bootTime = boot }
    #expect(asked.names == ["requireReboot"])
    let scheduled = plan([installed], [rebooting], isLocked: false) {
      $0.reboot = RebootState(isScheduled: true, isRequired: true, bootTime: boot)
    }
    #expect(scheduled.names == ["reboot"])
    #expect(scheduled.apps[1]?.isSettled == true)
    let later = Timestamp("2026-01-01T01:00:00Z") ?? Timestamp(seconds: 0)
    let booted = plan([installed], [rebooting], isLocked: false) { $0.reboot.bootTime = later }
    #expect(booted.names == ["start"])
  }

  @Test func aServiceBehindOneHeldForARebootDoesNotHoldTheCommitBack() {
    let installed = container(of: rebooting, status: .installed, createdAt: 100)
    let behind = service("b", dependsOn: ["main"])
    let result = plan([installed], [rebooting, behind], isLocked: false) {
      $0.reboot = RebootState(isScheduled: true, isRequired: true)
      $0.commits = [:]
    }
    #expect(result.names == ["updateCommit"])
  }

  // MARK: - Downloads

  @Test func anImageInBackOffIsWaitedFor() {
    let result = plan([], [new], images: []) { $0.imageBackOff = [imageName("two")] }
    #expect(result.steps.isEmpty)
    #expect(result.waits(of: "main") == [.imageBackOff(image: imageName("two"))])
  }

  @Test func oneImageForTwoServicesIsPulledOnceAndSavedForTheOther() {
    let pair = [service("a"), service("b")]
    #expect(plan([], pair, images: []).names == ["fetch"])
    #expect(plan([], pair, images: [service("a")]).names.contains("saveImage"))
  }

  @Test func anImageThatTheEngineHasIsSavedInsteadOfPulled() {
    let result = plan([], [new], images: []) {
      $0.images = ImageInventory(rows: [], engineImages: [engineImage("two")])
    }
    #expect(result.names == ["saveImage"])
  }

  @Test func downloadsBeyondTheLimitWaitForASlot() {
    let services = ["one", "two", "three", "four"].enumerated().map { service("s\($0)", image: $1) }
    let result = plan([], services, images: []) { $0.downloadLimit = 2 }
    #expect(result.names == ["fetch", "fetch"])
    #expect(result.waits(of: "s2") == [.downloadSlot(image: imageName("three"))])
  }
}
