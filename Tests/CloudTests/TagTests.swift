import Testing

@testable import Cloud

/// Which tags are written (cloud 5.1).
struct TagTests {
  @Test func aTagThatTheCloudHasIsNotWrittenAgain() {
    var queue = TagQueue(reported: ["a": "1"])
    queue.set(["a": "1", "b": "2"])
    #expect(queue.pending == ["b": "2"])
    queue.accepted(["b": "2"])
    #expect(queue.pending.isEmpty && queue.wanted.isEmpty)
    #expect(queue.reported == ["a": "1", "b": "2"])
  }

  @Test func aTagThatChangesWhileItIsSentIsSentAgain() {
    var queue = TagQueue()
    queue.set(["a": "1"])
    let sent = queue.pending
    queue.set(["a": "2"])
    queue.accepted(sent)
    #expect(queue.pending == ["a": "2"])
  }

  @Test func aTagThatGoesBackToWhatTheCloudHasIsNotPending() {
    var queue = TagQueue(reported: ["a": "1"])
    queue.set(["a": "2"])
    queue.set(["a": "1"])
    #expect(queue.pending.isEmpty)
  }

  @Test func namesOfTheCloudItselfAreReserved() {
    #expect(
      TagQueue.isReserved("io.balena.x") && TagQueue.isReserved("io.resin.x") && TagQueue.isReserved(""))
    #expect(!TagQueue.isReserved("io.balenax"))
  }
}
