import Database
import EventLoop
import Glibc
import HTTP
import JSON
import Model
import TestSupport
import Testing

@testable import Engine
@testable import StateEngine

/// What the state engine keeps between its looks at the device.
@Suite(.serialized)
struct HeldStateTests {
  private let scratch = Scratch()
  private let host = FixtureHost()

  private func stateEngine(_ store: Store) -> StateEngine {
    LoopDriver.start()
    return StateEngine(
      engine: EngineClient(.unix(scratch.file("no-engine.sock"))), store: store,
      locks: UpdateLocks(hostRoot: scratch.path), host: host, logger: quiet)
  }

  // MARK: - The target

  @Test func aTargetOfWhichOnlyAPartCanBeReadIsNotTakenForOneWithoutApps() throws {
    let store = try Store.inMemory()
    try stateEngine(store).setLocalTarget(
      ["local": ["name": "device", "config": [:], "apps": [:]]], force: false)
    #expect(try store.targets.isSet())
    try store.connection.execute("ALTER TABLE target_app RENAME TO hidden")
    let engine = stateEngine(store)
    engine.trigger()
    #expect(!engine.isTargetSet)
    try store.connection.execute("ALTER TABLE hidden RENAME TO target_app")
    engine.trigger()
    #expect(engine.isTargetSet)
  }

  @Test func aTargetThatComesWhileImagesAreLookedAtIsMappedWithItsOwnImages() async throws {
    let engine = try FixtureEngine()
    let builder = TargetBuilder(engine: engine.client, logger: quiet)
    let images = inventory(of: [service("main", image: "one"), service("main", image: "two")])
    builder.load([storedTarget(image: imageName("one"))])
    engine.asked = { path in
      if path.contains(engineId("one")) { builder.load([storedTarget(image: imageName("two"))]) }
    }
    for name in ["one", "two"] {
      engine.answers["/images/\(engineId(name))/json"] = .json([
        "Id": .string(engineId(name)), "Config": ["Env": [.string("IMAGE=\(name)")]],
      ])
    }
    try await builder.build(context: FixtureHost.context, inventory: images) { _, _ in "key" }
    let config = try #require(builder.apps.first?.services.first?.config)
    #expect(config.image == engineId("two"))
    #expect(config.environment["IMAGE"] == "two")
    await engine.stop()
  }

  // MARK: - Locks

  @Test func beforeTheFirstLookAUsersLockHoldsUpAReboot() async throws {
    let directory = scratch.file("tmp/balena-supervisor/services/1/main")
    var path = ""
    for part in directory.split(separator: "/") {
      path += "/\(part)"
      mkdir(path, 0o755)
    }
    write("", to: "\(directory)/updates.lock")
    let engine = stateEngine(try Store.inMemory())
    await #expect(throws: ActionError.self) { try await engine.goDown(.reboot, force: false) }
    #expect(!engine.isShuttingDown)
    #expect(engine.lockConflicts[1]?.service == "main")
    #expect(contents(of: "\(directory)/resin-updates.lock").isEmpty)
  }

  @Test func locksAreReleasedWhileOldImagesAreRemovedAndNeverWhileAStepNeedsThem() throws {
    let engine = stateEngine(try Store.inMemory())
    let release = PlannedStep(.releaseLock(appId: 1), appId: 1, reason: .rule(.lockNoLongerNeeded))
    let main = container(of: service("main"))
    let row = StoredImage(for: service("main"))
    func isReleased(during step: Step) -> Bool {
      let isAtRest = engine.isAtRest(1)
      engine.inFlight = [
        "it": StateEngine.InFlight(appId: 1, step: step, since: .read(), task: Task {})
      ]
      defer { engine.inFlight = [:] }
      #expect(isAtRest)
      let isReleased = engine.begin(release)
      engine.inFlight["lock 1"]?.task.cancel()
      engine.inFlight["lock 1"] = nil
      #expect(engine.isAtRest(1) == isReleased)
      return isReleased
    }
    for step in [Step.fetch(row), .saveImage(row, engineId: "one"), .removeImage(row, isNameShared: false)] {
      #expect(isReleased(during: step), "\(step.name)")
    }
    for step in [
      Step.kill(main), .stop(main), .start(target: main, container: nil),
      .updateMetadata(current: main, target: main), .handover(current: main, target: main), .setAside(main),
      .restore(main), .remove(main), .takeLock(appId: 1, services: ["main"], force: false),
    ] where !step.isLockRequest {
      #expect(!isReleased(during: step), "\(step.name)")
    }
  }

  // MARK: - Images

  @Test func anImageThatIsBeingDeletedIsNotThere() throws {
    let store = try Store.inMemory()
    let engine = stateEngine(store)
    for name in ["one", "two"] { _ = try store.images.save(StoredImage(for: service(name, image: name))) }
    engine.images.reloadRows()
    let row = try #require(engine.images.rows.first { $0.serviceName == "one" })
    engine.images.activities[row.name] = ImageManager.Activity(row: row, isDeleting: true, progress: 0)
    #expect(engine.images.inventory.rows.map(\.serviceName) == ["two"])
    engine.images.activities[row.name]?.isDeleting = false
    #expect(engine.images.inventory.rows.count == 2)
  }

  // MARK: - Events

  @Test func aContainerThatEndedAndIsGoneIsForgotten() throws {
    let engine = stateEngine(try Store.inMemory())
    engine.diedContainers = ["one", "two"]
    let event = try #require(
      EngineEvent(["Type": "container", "Action": "destroy", "Actor": ["ID": "one", "Attributes": [:]]]))
    engine.noteExit(event)
    #expect(engine.diedContainers == ["two"])
  }
}
