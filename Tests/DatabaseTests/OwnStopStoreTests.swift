import Database
import TestSupport
import Testing

@Suite("Containers that the agent stops")
struct OwnStopStoreTests {
  @Test("what was noted is there after a restart, once, until it is removed")
  func survives() throws {
    let scratch = Scratch()
    let path = scratch.file("database.sqlite")
    do {
      let store = try Store.open(at: path, logger: quiet)
      try store.ownStops.insert(["a", "b"])
      try store.ownStops.insert(["b", "c"])
      try store.ownStops.remove(["a", "unknown"])
    }
    let store = try Store.open(at: path, logger: quiet)
    #expect(try store.ownStops.all() == ["b", "c"])
    try store.ownStops.remove(["b", "c"])
    #expect(try store.ownStops.all() == [])
  }

  @Test("a database of the first schema gets the table and keeps what it has")
  func migrates() throws {
    let scratch = Scratch()
    let path = scratch.file("database.sqlite")
    do {
      let store = try Store.open(at: path, logger: quiet)
      try store.commits.set("c0ffee", forApp: 1)
      try store.connection.execute("DROP TABLE own_stop; DROP TABLE failed_update; PRAGMA user_version = 1")
    }
    let store = try Store.open(at: path, logger: quiet)
    #expect(store.origin == .existing)
    #expect(try store.commits.all() == [1: "c0ffee"])
    #expect(try store.ownStops.all() == [])
  }
}
