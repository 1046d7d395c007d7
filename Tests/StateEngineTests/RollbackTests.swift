import Database
import EventLoop
import Model
import Testing

@testable import StateEngine

/// Updates that can be taken back: plans and the judgement of new containers (docs/rollback.md).
struct RollbackTests {
  private let label = ["io.balena.update.rollback": "true"]
  private var old: Service { service("a", image: "one", release: 1, labels: label) }
  private var new: Service { service("a", image: "two", release: 2, labels: label) }

  private func aside(_ service: Service) -> Service {
    var kept = container(of: service, status: .engine("exited"), createdAt: 1)
    let name = kept.setAsideName
    kept.container?.name = name
    kept.config.restart = "no"
    return kept
  }

  private func input(_ containers: [Service], target: Service? = nil) -> PlannerInput {
    let target = target ?? new
    var input = StateEngineTests.input(
      current: [app(release: 1, containers)], target: [app(release: target.releaseId, [target])],
      images: [old, new])
    input.locks[1] = ["a"]
    input.commits[1] = "commit1"
    return input
  }

  @Test func theOldContainerIsKeptAndNotRemoved() {
    #expect(Planner.plan(input([container(of: old)])).names(of: "a") == ["setAside"])
  }

  @Test func withoutTheLabelItIsRemoved() {
    let target = service("a", image: "two", release: 2)
    #expect(Planner.plan(input([container(of: old)], target: target)).names(of: "a") == ["kill"])
  }

  @Test func aContainerThatDoesNotRunIsNoWayBack() {
    let exited = container(of: old, status: .engine("exited"))
    #expect(Planner.plan(input([exited])).names(of: "a") == ["kill"])
  }

  @Test func aContainerThatTheAgentStoppedOnTheWayIsStillAWayBack() {
    var input = input([container(of: old, status: .engine("exited"), id: "mine")])
    input.ownStops = ["mine"]
    #expect(Planner.plan(input).names(of: "a") == ["setAside"])
  }

  @Test func theNewOneIsStartedBesideIt() {
    #expect(Planner.plan(input([aside(old)])).names(of: "a") == ["start"])
  }

  @Test func untilTheNewOneHasProvenItselfNothingHappensAndTheCommitStays() {
    var input = input([aside(old), container(of: new, createdAt: 200)])
    #expect(Planner.plan(input).steps == [])
    #expect(Planner.plan(input).waits(of: "a") == [.proof])
    let id = input.current.flatMap(\.services).first { $0.commit == "commit2" }?.container?.id ?? ""
    input.proofs[id] = .proven
    #expect(Planner.plan(input).names(of: "a") == ["kill"])
  }

  @Test func aFailedUpdateKillsTheNewOneAndThenBringsTheOldOneBack() {
    var input = input([aside(old), container(of: new, createdAt: 200)])
    input.failedUpdates[1] = "a: its health check fails"
    let kill = Planner.plan(input).steps.first
    guard case .kill(let service)? = kill?.step else {
      Issue.record("nothing is killed")
      return
    }
    #expect(service.commit == "commit2")
    #expect(kill?.reason.description == "the update failed: a: its health check fails")
    input.current[0].services = [aside(old)]
    #expect(Planner.plan(input).names(of: "a") == ["restore"])
  }

  @Test func afterThatTheLocksAreReleasedAndTheUpdateWaits() {
    var input = input([container(of: old)])
    input.failedUpdates[1] = "a: its health check fails"
    let plan = Planner.plan(input)
    #expect(plan.names == ["releaseLock"])
    #expect(plan.waits(of: "a") == [.failedUpdate])
    #expect(!plan.isSettled)
  }

  @Test func allServicesGoForthTogether() {
    let oldB = service("b", image: "one", release: 1, labels: label)
    let newB = service("b", image: "two", release: 2, labels: label)
    var input = StateEngineTests.input(
      current: [
        app(
          release: 1,
          [
            aside(old), container(of: new, createdAt: 200, id: "a2"), aside(oldB),
            container(of: newB, createdAt: 200, id: "b2"),
          ])
      ], target: [app(release: 2, [new, newB])], images: [old, new, oldB, newB])
    input.locks[1] = ["a", "b"]
    input.proofs = ["a2": .proven, "b2": .pending]
    #expect(Planner.plan(input).names.filter { $0 == "kill" } == [])
    input.proofs["b2"] = .proven
    #expect(Planner.plan(input).names.filter { $0 == "kill" } == ["kill", "kill"])
  }

  @Test func aTargetThatIsWhatWasReplacedBringsItBackWithoutANewContainer() {
    let back = input([aside(old), container(of: new, createdAt: 200)], target: old)
    guard case .kill(let service)? = Planner.plan(back).steps.first?.step else {
      Issue.record("nothing is killed")
      return
    }
    #expect(service.commit == "commit2")
    #expect(Planner.plan(input([aside(old)], target: old)).names(of: "a") == ["restore"])
  }

  // MARK: - A release that drops, adds and breaks services

  private let dropped = service("b", image: "one", release: 1)
  private let added = service("c", image: "two", release: 2)
  private var unchanged: (old: Service, new: Service) {
    (service("d", image: "one", release: 1), service("d", image: "one", release: 2))
  }

  private func whole(_ containers: [Service], failed: Bool = false) -> PlannerInput {
    var input = StateEngineTests.input(
      current: [app(release: 1, containers)], target: [app(release: 2, [new, added, unchanged.new])],
      images: [old, dropped, unchanged.old, new, added, unchanged.new])
    input.locks[1] = ["a", "b", "c", "d"]
    input.commits[1] = "commit1"
    if failed { input.failedUpdates[1] = "a: it ended" }
    return input
  }

  @Test func aServiceThatTheReleaseDropsIsKeptWithTheOthersAndOneThatItOnlyRenamesKeepsItsName() {
    let begin = Planner.plan(
      whole([container(of: old), container(of: dropped), container(of: unchanged.old)]))
    #expect(begin.names(of: "a") == ["setAside"])
    #expect(begin.names(of: "b") == ["setAside"])
    #expect(begin.names(of: "c") == ["start"])
    #expect(begin.names(of: "d") == [])
    #expect(begin.waits(of: "d") == [.proof])
    var trial = whole([
      aside(old), container(of: new, id: "a2"), aside(dropped), container(of: added),
      container(of: unchanged.old),
    ])
    #expect(Planner.plan(trial).steps == [])
    trial.proofs["a2"] = .proven
    #expect(Planner.plan(trial).steps.map(\.service) == ["a"])
    trial.current[0].services.removeFirst()
    let proven = Planner.plan(trial)
    #expect(proven.names(of: "b") == ["kill"])
    #expect(proven.names(of: "d") == ["updateMetadata"])
  }

  @Test func onTheWayBackWhatTheReleaseAddedGoesBeforeWhatItDroppedComesBack() {
    let first = Planner.plan(
      whole(
        [
          aside(old), container(of: new), aside(dropped), container(of: added), container(of: unchanged.old),
        ], failed: true))
    #expect(first.names(of: "a") == ["kill"])
    #expect(first.names(of: "b") == [])
    #expect(first.names(of: "c") == ["kill"])
    let then = Planner.plan(whole([aside(old), aside(dropped), container(of: unchanged.old)], failed: true))
    #expect(then.names == ["restore", "restore"])
    #expect(then.waits(of: "c") == [.failedUpdate])
    let back = Planner.plan(
      whole([container(of: old), container(of: dropped), container(of: unchanged.old)], failed: true))
    #expect(back.names == ["releaseLock"])
  }

  @Test func aServiceThatWasReplacedWithoutAWayBackIsMadeAgainThoughTheUpdateFailed() {
    let other = service("d", image: "two", release: 2)
    var input = whole([container(of: old), container(of: dropped)], failed: true)
    input.target = resolved([app(release: 2, [new, other])], input.images)
    #expect(Planner.plan(input).names(of: "d").contains("start"))
  }

  @Test(arguments: ["always", "no", "on-failure", "unless-stopped"])
  func theNameTellsTheRestartPolicy(policy: String) {
    var service = old
    service.config.restart = policy
    var kept = container(of: service)
    kept.container?.name = service.setAsideName
    #expect(kept.container?.setAsidePolicy == policy)
    #expect(kept.beforeSetAside.config.restart == policy)
    #expect(container(of: old).container?.setAsidePolicy == nil)
  }

  // MARK: - Judgement

  private let start = MonotonicTime(nanoseconds: 1_000_000_000)
  private let key = CurrentState.ServiceKey(appId: 1, service: "a")

  private func running(_ health: ContainerHealth? = nil, startedAt: String = "now") -> Service {
    var service = container(of: new, createdAt: 200, id: "new")
    service.container?.health = health
    service.container?.startedAt = startedAt
    return service
  }

  private func judge(
    _ trials: inout UpdateTrials, _ service: Service, after: Duration, hasEnded: Bool = false
  ) -> (proof: Proof?, failure: String?) {
    var target = new
    target.config.image = service.config.image
    let (proofs, failed) = trials.judge(
      current: [aside(old), service], targets: [key: target], at: start + after,
      hasEnded: { _ in hasEnded })
    return (proofs["new"], failed.first?.reason)
  }

  @Test func withoutAHealthCheckItHasToRunForAWhile() {
    var trials = UpdateTrials()
    #expect(judge(&trials, running(), after: .zero).proof == .pending)
    #expect(trials.nextCheck == start + UpdateTrials.runningTime)
    #expect(judge(&trials, running(), after: .seconds(9)).proof == .pending)
    #expect(judge(&trials, running(), after: .seconds(10)).proof == .proven)
  }

  @Test func withAHealthCheckItHasToBeHealthyInTime() {
    var trials = UpdateTrials()
    #expect(judge(&trials, running(.starting), after: .zero).proof == .pending)
    #expect(judge(&trials, running(.healthy), after: .seconds(1)).proof == .proven)
    #expect(judge(&trials, running(.unhealthy), after: .seconds(1)).failure == "its health check fails")
    let late = judge(&trials, running(.starting), after: .seconds(1000)).failure
    #expect(late?.hasPrefix("it was not healthy within") == true)
  }

  @Test func oneThatEndsHasFailedUnlessItsWorkIsDone() {
    var trials = UpdateTrials()
    var ended = running()
    ended.container?.status = .engine("exited")
    ended.container?.exitCode = 3
    #expect(judge(&trials, ended, after: .zero).failure == "it ended with exit code 3")
    ended.container?.exitCode = 0
    #expect(judge(&trials, ended, after: .zero).proof == .proven)
  }

  @Test func oneThatTheEngineStartsAgainHasFailed() {
    var trials = UpdateTrials()
    #expect(judge(&trials, running(startedAt: "first"), after: .zero).proof == .pending)
    #expect(
      judge(&trials, running(startedAt: "second"), after: .seconds(1)).failure
        == "it ended and was started again")
    #expect(judge(&trials, running(), after: .zero, hasEnded: true).failure != nil)
  }

  @Test func oneThatAUserStopsHasNotFailed() {
    var trials = UpdateTrials()
    trials.accept("new")
    var stopped = running()
    stopped.container?.status = .engine("exited")
    stopped.container?.exitCode = 143
    #expect(judge(&trials, stopped, after: .zero).proof == .proven)
  }

  @Test func aFailedUpdateWaitsLongerEachTimeAndNotAtAllForAnotherTarget() {
    var trials = UpdateTrials()
    let target = TargetApp(appId: 1, uuid: uuid(1), name: "app1", source: "local", release: nil).stored
    _ = trials.fail(target, "no", at: start)
    #expect(trials.waiting(at: start + .seconds(3599)) == [1: "no"])
    #expect(trials.waiting(at: start + .seconds(3600)).isEmpty)
    #expect(trials.fail(target, "no", at: start).tries == 2)
    #expect(trials.waiting(at: start + .seconds(7199)) == [1: "no"])
    trials.forget(unless: [
      TargetApp(appId: 1, uuid: uuid(1), name: "another", source: "local", release: nil).stored
    ]
    )
    #expect(trials.waiting(at: start).isEmpty)
  }

  @Test func whatFailedIsKnownAfterARestartAndNoClockMakesItWaitForEver() {
    var trials = UpdateTrials()
    let target = TargetApp(appId: 1, uuid: uuid(1), name: "app1", source: "local", release: nil).stored
    _ = trials.fail(target, "no", at: start)
    #expect(trials.isUnsaved)
    let stored = trials.save(at: start + .seconds(600), clock: 1_800_000_000)
    #expect(stored.map(\.retryAt) == [1_800_003_000])
    #expect(!trials.isUnsaved)
    for (clock, wait) in [(1_800_001_000, 2000), (0, 3600), (Int.min, 3600), (1_900_000_000, 0)] {
      var again = UpdateTrials()
      again.load(stored, at: start, clock: clock)
      again.forget(unless: [target])
      #expect(again.failedUpdates == trials.failedUpdates)
      #expect(again.waiting(at: start + .seconds(wait)).isEmpty)
      if wait > 0 { #expect(again.waiting(at: start + .seconds(wait - 1)) == [1: "no"]) }
    }
    trials.succeed(app: 1)
    #expect(trials.isUnsaved && trials.save(at: start, clock: 0).isEmpty)
  }
}
