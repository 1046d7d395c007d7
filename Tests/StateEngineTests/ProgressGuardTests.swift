import Model
import Testing

@testable import StateEngine

/// Plans that go in circles are held back, others are not.
struct ProgressGuardTests {
  private let target = service("a")
  private let differences = Reason.differences([Difference(field: "user", current: "", target: "me")])

  private func kill(createdAt: Int, _ reason: Reason) -> PlannedStep {
    PlannedStep(
      .kill(container(of: target, createdAt: createdAt)), appId: 1, service: "a", reason: reason)
  }

  private func start(_ number: Int = 0) -> PlannedStep {
    PlannedStep(
      .start(target: service("a", variant: number), container: nil), appId: 1, service: "a",
      reason: .rule(.containerMissing))
  }

  @Test func aStepThatIsStillNeededAfterFiveTimesIsHeldBackAndThenTriedOnceAtATime() {
    var progress = ProgressGuard()
    for _ in 0..<ProgressGuard.repeatLimit {
      #expect(progress.objection(to: start()) == nil)
      progress.completed(start())
    }
    #expect(progress.objection(to: start()) == "done 5 times and still needed (the service has no container)")
    progress.retry(start())
    #expect(progress.objection(to: start()) == nil)
    progress.completed(start())
    #expect(progress.objection(to: start()) != nil)
  }

  @Test func stepsThatChangeAreNotACircle() {
    var progress = ProgressGuard()
    for number in 0..<20 {
      #expect(progress.objection(to: start(number)) == nil)
      progress.completed(start(number))
    }
  }

  @Test func aContainerThatIsReplacedForTheSameReasonAgainAndAgainIsHeldBack() {
    var progress = ProgressGuard()
    for round in 0..<ProgressGuard.replacementLimit {
      #expect(progress.objection(to: kill(createdAt: round, differences)) == nil)
      progress.completed(kill(createdAt: round, differences))
      progress.completed(start())
    }
    #expect(
      progress.objection(to: kill(createdAt: 9, differences))
        == "the container was replaced 3 times and still differs (user:  -> me)")
    let other = Reason.differences([Difference(field: "user", current: "", target: "you")])
    #expect(progress.objection(to: kill(createdAt: 9, other)) == nil)
  }

  @Test func replacementsThatAUserCausesAreNotCounted() {
    var progress = ProgressGuard()
    for round in 0..<10 {
      let step = kill(createdAt: round, .rule(.requested("restart-service")))
      #expect(progress.objection(to: step) == nil)
      progress.completed(step)
    }
  }

  @Test func anAppThatHasArrivedStartsAfresh() {
    var progress = ProgressGuard()
    for round in 0..<ProgressGuard.replacementLimit {
      progress.completed(kill(createdAt: round, differences))
    }
    progress.forget(app: 1)
    #expect(progress.objection(to: kill(createdAt: 9, differences)) == nil)
  }
}
