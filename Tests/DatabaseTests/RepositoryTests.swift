import Database
import Testing

@Suite("Repositories")
struct RepositoryTests {
  let store: Store
  init() throws { store = try Store.inMemory() }

  @Test("a target replaces the apps of its own source and keeps those of others")
  func targetBySource() throws {
    let targets = store.targets
    try targets.replace(
      [app("a", id: 1, source: "cloud"), app("b", id: 2, source: "cloud")], source: "cloud",
      deviceName: "one", deviceConfig: ["A": "1", "B": "2"])
    try targets.replace([app("l", id: 3)], source: "local", deviceName: "two", deviceConfig: ["A": "3"])
    try targets.replace(
      [app("b", id: 2, source: "cloud"), app("c", id: 4, source: "cloud")], source: "cloud",
      deviceName: "three", deviceConfig: [:])
    #expect(try targets.apps(source: "cloud").map(\.uuid) == ["b", "c"])
    #expect(try targets.apps(source: "local") == [app("l", id: 3)])
    #expect(try targets.deviceName() == "three")
    #expect(try targets.deviceConfig() == [:])
    #expect(try targets.isSet())
  }

  @Test("apps whose class is not fleet are read for every source")
  func otherClasses() throws {
    try store.targets.replace(
      [app("f", id: 1, source: "cloud"), app("s", id: 2, source: "cloud", appClass: "app")], source: "cloud",
      deviceName: "", deviceConfig: [:])
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["s"])
  }

  @Test("an app that moves to another source exists once")
  func movedApp() throws {
    try store.targets.replace([app("a", source: "x")], source: "x", deviceName: "", deviceConfig: [:])
    try store.targets.replace([app("a", source: "y")], source: "y", deviceName: "", deviceConfig: [:])
    #expect(try store.targets.apps(source: "x").isEmpty)
    #expect(try store.targets.apps(source: "y").count == 1)
  }

  @Test("the texts of an app come back byte for byte")
  func textsKept() throws {
    var original = app("a")
    original.networks = #"{"z":{},"a":{"driver":"x"}, "n":1.0}"#
    original.commit = nil
    original.releaseId = nil
    try store.targets.replace([original], source: "local", deviceName: "", deviceConfig: [:])
    #expect(try store.targets.apps(source: "local") == [original])
  }

  @Test("an identical image is stored once, and takes the engine's id later")
  func imageOnce() throws {
    let first = try store.images.save(image("a:1"))
    #expect(try store.images.save(image("a:1", engineId: "sha256:1")) == first)
    #expect(try store.images.save(image("a:1")) == first)
    let second = try store.images.save(image("a:1", commit: "other"))
    #expect(second != first)
    let all = try store.images.all()
    #expect(all.map(\.id) == [first, second])
    #expect(all.map(\.engineId) == ["sha256:1", nil])
    try store.images.delete(rows: [first, 999])
    #expect(try store.images.all().map(\.id) == [second])
  }

  @Test("images without metadata are told apart, too")
  func imageWithoutMetadata() throws {
    let bare = StoredImage(
      name: "x", appId: nil, appUuid: nil, serviceId: nil, serviceName: nil, imageId: nil, releaseId: nil,
      commit: nil)
    #expect(try store.images.save(bare) == store.images.save(bare))
    #expect(try store.images.all().count == 1)
  }

  @Test("volumes are named by the apps of all sources, or of all but one")
  func volumeNames() throws {
    var cloud = app("c", id: 1, source: "cloud")
    cloud.volumes = #"{"data":{}}"#
    var local = app("l", id: 2)
    local.volumes = #"{"data":{},"more":{}}"#
    try store.targets.replace([cloud], source: "cloud", deviceName: "", deviceConfig: [:])
    try store.targets.replace([local], source: "local", deviceName: "", deviceConfig: [:])
    #expect(try store.targets.volumeNames() == [1: ["data"], 2: ["data", "more"]])
    #expect(try store.targets.volumeNames(besides: "local") == [1: ["data"]])
  }

  @Test("the current commit of an app is replaced and removed")
  func commits() throws {
    try store.commits.set("a", forApp: 1)
    try store.commits.set("b", forApp: 1)
    try store.commits.set("c", forApp: 2)
    #expect(try store.commits.all() == [1: "b", 2: "c"])
    try store.commits.remove(app: 1)
    #expect(try store.commits.commit(ofApp: 1) == nil)
    #expect(try store.commits.commit(ofApp: 2) == "c")
  }

  @Test("there is one engine snapshot")
  func snapshot() throws {
    try store.snapshots.save("{}", takenAt: "2024-01-01T00:00:00Z")
    try store.snapshots.save("{\"a\":1}", takenAt: "2025-01-01T00:00:00Z")
    let loaded = try #require(try store.snapshots.load())
    #expect(loaded.snapshot == "{\"a\":1}")
    #expect(loaded.takenAt == "2025-01-01T00:00:00Z")
    try store.snapshots.remove()
    #expect(try store.snapshots.load() == nil)
  }

  @Test("a setting is overwritten, and a NULL value counts as absent")
  func settings() throws {
    try store.settings.set("k", to: "1")
    try store.settings.set("k", to: "")
    #expect(try store.settings.text("k") == .some(""))
    try store.connection.run("INSERT INTO config VALUES ('n', NULL)")
    #expect(try store.settings.text("n") == nil)
    try store.settings.remove("k")
    #expect(try store.settings.all() == [:])
  }
}
