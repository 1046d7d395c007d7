import Database
import EventLoop
import Model
import TestSupport
import Testing

@testable import StateEngine

/// Rows, engine images and what becomes of them (state-engine 6).
struct ImageRulesTests {
  private func row(_ name: String, id: Int = 1, engineId: String? = nil, service name2: String = "main")
    -> StoredImage
  {
    var row = StoredImage(for: service(name2, image: name))
    row.id = id
    row.engineId = engineId
    return row
  }

  // MARK: - Availability

  @Test func aRowIsAvailableByTagByDigestOrByEngineId() {
    let images = [engineImage("one"), engineImage("twod"), EngineImage(id: engineId("three"))]
    let rows = [row("one"), row("twod"), row("three", engineId: engineId("three")), row("four")]
    let inventory = ImageInventory(rows: rows, engineImages: images)
    #expect(inventory.availableRows == Array(rows.prefix(3)))
  }

  @Test func aRowWithADigestIsNotTakenForAnotherDigestOfItsRepository() {
    let other = EngineImage(id: "sha256:other", repoTags: ["registry.test/oned:latest"])
    let known = ImageInventory(rows: [row("oned", engineId: engineId("oned"))], engineImages: [other])
    #expect(known.availableRows.isEmpty)
    let unknown = ImageInventory(rows: [row("oned")], engineImages: [other])
    #expect(unknown.availableRows.count == 1)
  }

  @Test func anImageIsPresentUnderAnotherRepositoryWithTheSameDigest() {
    let inventory = inventory(of: [service("main", image: "oned")])
    #expect(inventory.isPresent(for: service("other", image: "x-oned")))
    #expect(!inventory.isPresent(for: service("other", image: "twod")))
  }

  @Test func aRegistrysPortIsNotATag() {
    #expect(ImageName("localhost:5000/app").tag == "latest")
    #expect(ImageName("localhost:5000/app").repository == "localhost:5000/app")
    #expect(ImageName("localhost:5000/app:3").tag == "3")
  }

  // MARK: - Rows to save and to drop

  @Test func aSecondUseOfAnImageIsSavedAndAMissingImageIsNot() {
    let inventory = inventory(of: [service("main", release: 1)])
    #expect(ImageRules.saveable(for: service("main", release: 2), in: inventory) == engineId("one"))
    #expect(ImageRules.saveable(for: service("main", release: 1), in: inventory) == nil)
    #expect(ImageRules.saveable(for: service("main", image: "two"), in: inventory) == nil)
  }

  @Test func rowsOfCurrentAndTargetServicesAreKept() {
    let old = service("main", image: "one", release: 1)
    let new = service("main", image: "two", release: 2)
    let gone = service("gone", image: "three", release: 1)
    let inventory = inventory(of: [old, new, gone])
    let unused = ImageRules.unusedRows(in: inventory, current: [container(of: old)], target: [new])
    #expect(unused.map(\.serviceName) == ["gone"])
    let later = ImageRules.unusedRows(in: inventory, current: [container(of: new)], target: [new])
    #expect(later.map(\.name) == [imageName("one"), imageName("three")])
  }

  @Test func aRowIsKeptWhileATargetHasStillToSaveItsImageForItself() {
    let inventory = inventory(of: [service("main", release: 1)])
    #expect(
      ImageRules.unusedRows(in: inventory, current: [], target: [service("main", release: 2)]).isEmpty)
  }

  @Test func onlyTheLastRowOfANameTakesTheImageAlong() {
    let first = row("one", id: 1)
    let second = row("one", id: 2, service: "other")
    let kept = row("one", id: 3, service: "kept")
    let image = engineImage("one")
    let all = ImageInventory(rows: [first, second], engineImages: [image])
    #expect(ImageRules.removals(of: [first, second], in: all).map(\.isNameShared) == [true, false])
    let some = ImageInventory(rows: [first, second, kept], engineImages: [image])
    #expect(ImageRules.removals(of: [first, second], in: some).map(\.isNameShared) == [true, true])
  }

  @Test func aNameStaysWhileAnotherRowOfTheImageHasNoneOfItsOwn() {
    let dropped = row("x-oned", id: 1, engineId: engineId("oned"))
    let kept = row("oned", id: 2, engineId: engineId("oned"))
    let borrowed = ImageInventory(rows: [dropped, kept], engineImages: [engineImage("x-oned")])
    #expect(ImageRules.removals(of: [dropped], in: borrowed).map(\.isNameShared) == [true])
    var both = engineImage("x-oned")
    both.repoTags += engineImage("oned").repoTags
    let named = ImageInventory(rows: [dropped, kept], engineImages: [both])
    #expect(ImageRules.removals(of: [dropped], in: named).map(\.isNameShared) == [false])
  }

  // MARK: - Clean-up

  @Test func danglingImagesWithoutARowAreCleanedUp() {
    let inventory = ImageInventory(
      rows: [row("one", engineId: "known")],
      engineImages: [
        EngineImage(id: "known"), EngineImage(id: "used"), EngineImage(id: "ignored"),
        EngineImage(id: "old", repoTags: ["<none>:<none>"], repoDigests: ["<none>@<none>"]),
        EngineImage(id: "named", repoTags: ["foreign:1"]),
      ])
    #expect(
      ImageRules.cleanable(in: inventory, agent: nil, inUse: ["used"], ignored: ["ignored"]) == ["old"])
  }

  @Test func otherTagsOfTheAgentsRepositoryAreCleanedUp() {
    let inventory = ImageInventory(
      rows: [],
      engineImages: [
        EngineImage(id: "running", repoTags: ["balena/agent:v2"]),
        EngineImage(id: "before", repoTags: ["balena/agent:v1"]),
        EngineImage(id: "legacy", repoTags: ["resin/agent:v0"]),
      ])
    let agent = AgentImage(repositories: ["balena/agent", "resin/agent"], runningTag: "v2")
    #expect(
      ImageRules.cleanable(in: inventory, agent: agent, inUse: [], ignored: []) == ["before", "legacy"])
  }

  // MARK: - Deltas and repair

  @Test func theDeltaSourceIsAnImageOfTheSameServiceAndApp() {
    let inventory = inventory(of: [service("other", image: "two"), service("main", image: "one")])
    #expect(
      ImageRules.deltaSource(for: service("main", image: "three"), in: inventory)?.name == imageName("one"))
    #expect(ImageRules.deltaSource(for: service("new", image: "three"), in: inventory) == nil)
    let deleting = service("main", image: "three", strategy: .deleteThenDownload)
    #expect(ImageRules.deltaSource(for: deleting, in: inventory) == nil)
  }

  @Test func theStartRepairsRowsAndDropsThoseWithoutAnImage() {
    let missing = row("two", id: 2)
    var agent = row("one", id: 3)
    agent.appUuid = "52e35121417640b1b28a680504e4039b"
    let inventory = ImageInventory(rows: [row("one"), missing, agent], engineImages: [engineImage("one")])
    let repair = ImageRules.startupRepair(of: inventory)
    #expect(repair.updates == [row("one", engineId: engineId("one"))])
    #expect(repair.deletions == [missing, agent])
    #expect(repair.tags == [row("one", engineId: engineId("one"))])
  }

  // MARK: - Back-off

  @Test func theBackOffDoublesUpToThePollInterval() {
    func delay(_ failures: Int) -> Duration {
      ImageBackOff.delay(failures: failures, pollInterval: .seconds(900))
    }
    #expect((1...3).map(delay) == [.seconds(1), .seconds(2), .seconds(4)])
    #expect(delay(11) == .seconds(900))
    #expect(delay(1_000_000) == .seconds(900))
  }

  @Test func anImageWaitsAtLeastItsDelayAndAtMostATenthMore() {
    var random = SeededGenerator(seed: 1)
    let start = MonotonicTime(nanoseconds: 5)
    for _ in 0..<1000 {
      var backOff = ImageBackOff()
      backOff.fail("a", at: start, using: &random)
      #expect(backOff.waiting(at: start + .milliseconds(999)) == ["a"])
      #expect(backOff.waiting(at: start + .milliseconds(1101)) == [])
    }
  }

  @Test func successForgetsTheFailures() {
    var random = SeededGenerator(seed: 1)
    var backOff = ImageBackOff()
    backOff.fail("a", at: MonotonicTime(nanoseconds: 0), using: &random)
    backOff.fail("a", at: MonotonicTime(nanoseconds: 0), using: &random)
    #expect(backOff.failures(of: "a") == 2)
    backOff.succeed("a")
    #expect(backOff.failures(of: "a") == 0)
    #expect(backOff.nextRetry(after: MonotonicTime(nanoseconds: 0)) == nil)
  }
}
