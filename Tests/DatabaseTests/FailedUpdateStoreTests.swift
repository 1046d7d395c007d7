import Database
import TestSupport
import Testing

@Suite("Updates that were taken back")
struct FailedUpdateStoreTests {
  @Test("what was stored last, and nothing else, is there after a restart")
  func survives() throws {
    let scratch = Scratch()
    let path = scratch.file("database.sqlite")
    let first = StoredFailure(
      appId: 1, target: "{}", reason: "main: it ended", tries: 2, retryAt: 1_800_000_000)
    let second = StoredFailure(appId: 2, target: "[]", reason: "", tries: 1, retryAt: -5)
    do {
      let store = try Store.open(at: path, logger: quiet)
      try store.failedUpdates.replace(with: [first])
      try store.failedUpdates.replace(with: [second, first])
    }
    let store = try Store.open(at: path, logger: quiet)
    #expect(try store.failedUpdates.all() == [first, second])
    try store.failedUpdates.replace(with: [])
    #expect(try store.failedUpdates.all() == [])
  }
}
