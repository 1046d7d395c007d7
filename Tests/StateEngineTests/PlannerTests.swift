import Database
import Model
import Testing

@testable import StateEngine

/// The order of decisions for apps, networks and volumes (state-engine 3).
struct PlannerTests {
  private let old = service("main", image: "one")
  private let new = service("main", image: "two", release: 2)

  private func held(_ names: String...) -> [Int: Set<String>] { [1: Set(names)] }

  // MARK: - The device as a whole

  @Test func aSettledDevicePlansNothing() {
    var input = input(current: [app([container(of: old)])], target: [app([old])])
    input.commits = [1: "commit1"]
    #expect(Planner.plan(input).steps.isEmpty)
    #expect(Planner.plan(input).isSettled)
  }

  @Test func aWrongSupervisorNetworkKillsItsUsersFirstWithoutLocksAndSuspendsTheApps() {
    let plain = service("plain")
    let user = service("user", labels: ["io.balena.features.supervisor-api": "1"])
    var input = input(
      current: [app([container(of: plain), container(of: user)])], target: [app(release: 2, [new])])
    input.supervisorNetwork = .missing
    let plan = Planner.plan(input)
    #expect(plan.names == ["kill"])
    #expect(plan.steps.first?.service == "user")
    #expect(plan.apps[1]?.waiting.map(\.cause) == [.supervisorNetwork])
  }

  @Test func aUserOfTheSupervisorNetworkThatCouldNotBeStoppedIsLeftAloneUntilItsNextTryIsDue() {
    let user = service("user", labels: ["io.balena.features.supervisor-api": "1"])
    let other = service("user", app: 2, labels: ["io.balena.features.supervisor-api": "1"])
    var input = input(
      current: [app(1, [container(of: user)]), app(2, [container(of: other)])], target: [])
    input.supervisorNetwork = .missing
    input.pausedApps = [1]
    #expect(Planner.plan(input).steps.map(\.appId) == [2])
    input.current.removeLast()
    #expect(Planner.plan(input).steps.isEmpty)
  }

  @Test func aMissingSupervisorNetworkWithoutUsersIsCreatedAlone() {
    var input = input(target: [app([old])])
    input.supervisorNetwork = .missing
    input.isExtraFirmwareReady = false
    #expect(Planner.plan(input).names == ["ensureSupervisorNetwork"])
    input.supervisorNetwork = .ready
    #expect(Planner.plan(input).names == ["ensureExtraFirmwareVolume"])
  }

  @Test func aStoppingUserOfTheSupervisorNetworkIsWaitedFor() {
    let user = service("user", labels: ["io.balena.features.supervisor-api": "1"])
    var input = input(current: [app([container(of: user, status: .stopping)])], target: [])
    input.supervisorNetwork = .missing
    #expect(Planner.plan(input).steps.isEmpty)
  }

  @Test func aRequiredRebootComesWhenNothingElseIsLeft() {
    var input = input(current: [app([container(of: old)])], target: [app([old])])
    input.reboot = RebootState(isScheduled: true, isRequired: true)
    #expect(Planner.plan(input).names == ["updateCommit"])
    input.commits = [1: "commit1"]
    #expect(Planner.plan(input).names == ["reboot"])
    input.pausedApps = [1]
    #expect(Planner.plan(input).names == [])
  }

  @Test func aRebootWaitsForADependencyThatMayYetBeMetButNotForEverAndNotForOneOutOfReach() {
    let first = service("a")
    let second = service("b", dependsOn: [Dependency("a", .healthy)])
    var running = container(of: first)
    running.container?.health = .starting
    var input = input(current: [app([running])], target: [app([first, second])])
    input.reboot = RebootState(isScheduled: true, isRequired: true)
    #expect(Planner.plan(input).names == [])
    input.impatientApps = [1]
    #expect(Planner.plan(input).names == ["reboot"])
    input.impatientApps = []
    input.current[0].services[0].container?.health = .unhealthy
    #expect(Planner.plan(input).names == ["reboot"])
  }

  @Test func aRebootThatFailedWaitsForItsNextTryAndTheTargetIsNotReachedMeanwhile() {
    var input = input(current: [app([container(of: old)])], target: [app([old])])
    input.commits = [1: "commit1"]
    #expect(Planner.plan(input).isSettled)
    input.reboot = RebootState(isScheduled: true, isRequired: true)
    input.isDevicePaused = true
    let plan = Planner.plan(input)
    #expect(plan.names == [])
    #expect(!plan.isSettled)
  }

  @Test func anImageOfAnAppThatIsGoneWaitsForTheNextTry() {
    var planned = input(target: [], images: [old])
    #expect(Planner.plan(planned).names == ["removeImage"])
    planned.pausedApps = [1]
    #expect(Planner.plan(planned).names == [])
  }

  @Test func aPausedAppIsLeftAloneAndTheOthersAreNot() {
    var input = input(
      target: [app(1, [service("main", app: 1)]), app(2, [service("main", app: 2)])], images: [])
    input.pausedApps = [1]
    let plan = Planner.plan(input)
    #expect(plan.steps.allSatisfy { $0.appId == 2 })
    #expect(!plan.steps.isEmpty)
    #expect(plan.apps[1] == AppProgress(waiting: [Waiting(.paused)], isSettled: false))
  }

  @Test func theAgentsOwnServicesAreNotPlanned() {
    var agent = service("main", app: 9)
    agent.appUuid = "52e35121417640b1b28a680504e4039b"
    var agentApp = app(9, [agent], networks: [])
    agentApp.uuid = agent.appUuid
    agentApp.commit = nil
    #expect(Planner.plan(input(target: [agentApp], images: [])).steps.isEmpty)
    agentApp.services = [container(of: agent)]
    #expect(Planner.plan(input(current: [agentApp], target: [])).steps.isEmpty)
  }

  @Test func ofAHostAppOnlyServicesInTheDataStoreArePlanned() {
    var host = app([
      service("a", labels: ["io.balena.image.class": "overlay"]),
      service("b", labels: ["io.balena.image.store": "root"]),
      service("c", labels: ["io.balena.image.class": "service", "io.balena.image.store": "data"]),
    ])
    #expect(Set(Planner.plan(input(target: [host])).steps.compactMap(\.service)).isEmpty)
    host.isHost = true
    let plan = Planner.plan(input(target: [host], images: []))
    #expect(plan.steps.compactMap(\.service) == ["c"])
  }

  @Test func aRejectedAppIsNeitherUpdatedNorRemoved() {
    var rejected = app(release: 2, [new])
    rejected.isRejected = true
    let plan = Planner.plan(
      input(current: [app([container(of: old)], volumes: [volume("data")])], target: [rejected]))
    #expect(plan.steps.isEmpty)
    #expect(plan.isSettled)
    #expect(plan.apps.values.flatMap(\.waiting).map(\.cause) == [.rejected])
  }

  @Test func anAppThatCannotBeMappedIsNeitherUpdatedNorRemovedAndSaysWhy() {
    var broken = app(release: 2, [])
    broken.isRejected = true
    broken.problem = "no such port"
    let plan = Planner.plan(
      input(current: [app([container(of: old)], volumes: [volume("data")])], target: [broken]))
    #expect(plan.steps.isEmpty && plan.isSettled)
    #expect(
      plan.apps.values.flatMap(\.waiting).map { "\($0.cause)" } == [
        "a release that can be applied: no such port"
      ])
  }

  // MARK: - Networks and volumes

  @Test func missingNetworksAndVolumesAreCreatedDuringTheDownloadWithoutALock() {
    let target = app([old], networks: [network("default"), network("back")], volumes: [volume("data")])
    #expect(
      Planner.plan(input(target: [target], images: [])).names == [
        "fetch", "createVolume", "createNetwork", "createNetwork",
      ])
  }

  @Test func aChangedNetworkGoesAfterItsUsersAndComesBackBeforeThem() {
    let current = app([container(of: old)], networks: [network("default", version: 0)])
    let target = app([old], networks: [network("default", version: 1)])
    var planned = input(current: [current], target: [target])
    #expect(Planner.plan(planned).names == ["takeLock"])
    planned.locks = held("main")
    let kill = Planner.plan(planned)
    #expect(kill.names == ["kill"])
    #expect(kill.steps.first?.reason == .rule(.usesChangingNetwork("default")))

    planned.current = [app([], networks: [network("default", version: 0)])]
    #expect(Planner.plan(planned).names == ["removeNetwork"])
    planned.current = [app([], networks: [])]
    #expect(Planner.plan(planned).names == ["createNetwork"])
    planned.current = [app([], networks: [network("default", version: 1)])]
    #expect(Planner.plan(planned).names == ["start"])
  }

  @Test func aNetworkThatIsNotInTheTargetIsRemovedAndItsUsersAreKilled() {
    let both = service("main", networks: ["default", "back"])
    let only = service("main", networks: ["default"])
    let current = app([container(of: both)], networks: [network("default"), network("back")])
    var planned = input(current: [current], target: [app([only])])
    planned.locks = held("main")
    #expect(Planner.plan(planned).names == ["kill"])
    planned.current = [app([], networks: [network("default"), network("back")])]
    #expect(Planner.plan(planned).names(of: "main") == ["start"])
    #expect(Planner.plan(planned).names.contains("removeNetwork"))
  }

  @Test func severalNetworksOfOneNameAreRemovedOnceAndMadeAnew() {
    let current = app([], networks: [network("default"), network("default")])
    #expect(Planner.plan(input(current: [current], target: [app([])])).names == ["removeNetwork"])
  }

  @Test func aVolumeThatIsNotInTheReleaseIsKeptUntilTheAppGoes() {
    let current = app([container(of: old)], volumes: [volume("data")])
    var planned = input(current: [current], target: [app([old])])
    planned.commits = [1: "commit1"]
    #expect(Planner.plan(planned).steps.isEmpty)
  }

  @Test func aChangedVolumeIsReplacedWithItsReason() {
    let current = app([], volumes: [volume("data", version: 0)])
    let plan = Planner.plan(
      input(current: [current], target: [app([], volumes: [volume("data", version: 1)])]))
    #expect(plan.names == ["removeVolume"])
    #expect(
      plan.steps.first?.reason
        == .differences([Difference(field: "labels.version", current: "0", target: "1")]))
  }

  @Test func aServiceWaitsForAllItsNetworksNotOnlyTheFirst() {
    let target = service("main", networks: ["default", "back"])
    var planned = input(
      current: [app([])], target: [app([target], networks: [network("default"), network("back")])])
    planned.locks = held("main")
    let plan = Planner.plan(planned)
    #expect(plan.names == ["createNetwork"])
    #expect(plan.waits(of: "main") == [.networks(["back"])])
  }

  // MARK: - Removal of an app

  @Test func anAppGoesInStagesServicesNetworksVolumesLocks() {
    let services = [container(of: service("a")), container(of: service("b"))]
    var planned = input(current: [app(services, volumes: [volume("data")])], target: [])
    planned.keepImages = true
    let lock = Planner.plan(planned)
    #expect(lock.steps.map(\.step) == [.takeLock(appId: 1, services: ["a", "b"], force: false)])
    planned.locks = held("a", "b")
    #expect(Planner.plan(planned).names == ["kill", "kill"])
    planned.current = [app([container(of: service("a"), status: .stopping)], volumes: [volume("data")])]
    #expect(Planner.plan(planned).steps.isEmpty)
    #expect(!Planner.plan(planned).isSettled)
    planned.current = [app([], volumes: [volume("data")])]
    #expect(Planner.plan(planned).names == ["removeNetwork"])
    planned.current = [app([], networks: [], volumes: [volume("data")])]
    #expect(Planner.plan(planned).names == ["removeVolume"])
    planned.keepVolumes = true
    #expect(Planner.plan(planned).names == ["releaseLock"])
    planned.current = []
    #expect(Planner.plan(planned).names == ["releaseLock"])
  }

  // MARK: - The end of an update

  @Test func theCommitIsStoredAndTheLockReleasedWhenNothingElseIsLeft() {
    var planned = input(current: [app([container(of: old)])], target: [app([old])])
    planned.locks = held("main")
    #expect(Planner.plan(planned).names == ["updateCommit", "releaseLock"])
    planned.locks = [:]
    planned.commits = [1: "commit1"]
    planned.leftoverLocks = [1]
    #expect(Planner.plan(planned).names == ["releaseLock"])
  }

  @Test func unusedImagesGoWhenTheAppHasSettledAndNotBetweenKillAndStart() {
    var planned = input(target: [app(release: 2, [new])], images: [old, new])
    planned.locks = held("main")
    planned.current = [app([])]
    #expect(Planner.plan(planned).names == ["start"])
    planned.current = [app([container(of: new)])]
    #expect(Planner.plan(planned).names == ["updateCommit", "releaseLock", "removeImage"])
    planned.keepImages = true
    #expect(Planner.plan(planned).names == ["updateCommit", "releaseLock"])
  }

  @Test func forceIsPassedOnToTheLock() {
    var planned = input(current: [app([container(of: old)])], target: [app(release: 2, [new])])
    planned.force = true
    #expect(Planner.plan(planned).steps.map(\.step) == [.takeLock(appId: 1, services: ["main"], force: true)])
  }

  @Test func aLockThatDoesNotCoverANewServiceIsExtended() {
    let added = service("added", release: 2)
    var planned = input(
      current: [app([container(of: old)])], target: [app(release: 2, [new, added])])
    planned.locks = held("main")
    #expect(
      Planner.plan(planned).steps.map(\.step)
        == [.takeLock(appId: 1, services: ["added", "main"], force: false)])
  }
}
