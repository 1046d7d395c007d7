import Database
import Model
import Testing

@testable import StateEngine

/// Plans while an action of the API is under way (state-engine 1.6).
struct IntermediateTargetTests {
  private let volumes = [volume("data")]
  private var target: App { app([service("a"), service("b", dependsOn: ["a"])], volumes: volumes) }
  private var current: App {
    app([container(of: service("a")), container(of: service("b"))], volumes: volumes)
  }

  private func input(_ intermediate: App?, current: App?, held: Bool = true) -> PlannerInput {
    var input = StateEngineTests.input(current: current.map { [$0] } ?? [], target: [target])
    input.images = inventory(of: target.services)
    input.intermediate[1] = IntermediateTarget(app: intermediate, force: false)
    input.commits[1] = "commit1"
    if held { input.locks[1] = ["a", "b"] }
    return input
  }

  private var emptied: App {
    var app = current
    app.services = []
    return app
  }

  @Test func theFirstPhaseOfARestartKillsAllServicesAndNothingElse() {
    let plan = Planner.plan(input(emptied, current: current))
    #expect(plan.names == ["kill", "kill"])
  }

  @Test func itTakesTheLocksFirst() {
    let plan = Planner.plan(input(emptied, current: current, held: false))
    #expect(plan.names == ["takeLock"])
  }

  @Test func forceIsThatOfTheActionAndNotOfTheLoop() {
    var input = input(emptied, current: current, held: false)
    input.force = true
    guard case .takeLock(_, _, let isForced)? = Planner.plan(input).steps.first?.step else {
      Issue.record("no lock is taken")
      return
    }
    #expect(!isForced)
  }

  @Test func theLocksAreKeptBetweenThePhases() {
    let plan = Planner.plan(input(emptied, current: emptied))
    #expect(plan.names == [])
    #expect(plan.apps[1]?.isSettled == true)
  }

  @Test func aPurgeRemovesVolumesWhereverTheyWouldBeKeptOtherwise() {
    var bare = emptied
    bare.networks = []
    var input = input(nil, current: bare)
    input.keepVolumes = true
    #expect(Planner.plan(input).names == ["removeVolume"])
  }

  @Test func imagesOfTheAppStay() {
    var input = input(nil, current: nil)
    input.target = []
    #expect(Planner.plan(input).names == [])
    input.intermediate = [:]
    #expect(Planner.plan(input).names.contains("removeImage"))
  }

  @Test func otherAppsGoOn() {
    var input = input(emptied, current: current)
    input.target.append(app(2, [service("c", app: 2, image: "two")]))
    let plan = Planner.plan(input)
    #expect(plan.names(of: "c") == ["fetch"])
  }

  @Test func aContainerThatSharedANetworkNamespaceSharesItWithTheServiceAgain() {
    var sharing = container(of: service("b"))
    sharing.config.networkMode = "container:abc"
    let again = sharing.recreation(serviceNames: ["abc": "a"])
    #expect(again.config.networkMode == "service:a")
    #expect(again.dependencies.map(\.service) == ["a"])
    #expect(again.container == nil)
  }

  @Test func aContainerThatWasNeverStartedIsMadeAgainButNotStarted() {
    let created = container(of: service("b"), status: .installed)
    #expect(!created.recreation(serviceNames: [:]).config.isRunning)
    #expect(container(of: service("b"), status: .engine("exited")).recreation(serviceNames: [:]).isRunning)
  }

  @Test func aTimestampReadsAsTheEngineWritesIt() {
    for text in [
      "1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "2026-11-23T06:04:20Z", "1969-12-31T23:59:58Z",
    ] {
      #expect(Timestamp(text)?.description == text)
    }
  }
}
