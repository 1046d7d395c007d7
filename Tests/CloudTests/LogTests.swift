import JSON
import Testing

@testable import Cloud

/// Records of the log stream, and what waits for it (cloud 4.1, 4.3).
struct LogTests {
  private func text(_ record: LogRecord) -> String {
    var bytes: [UInt8] = []
    record.write(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func recordsHaveTheFieldsOfTheirKind() {
    #expect(
      text(LogRecord(message: "a\"b", timestamp: 5, serviceId: 7))
        == "{\"message\":\"a\\\"b\",\"isStdErr\":false,\"timestamp\":5,\"serviceId\":7}\n")
    #expect(
      text(LogRecord(message: "x", timestamp: 5, isStdErr: true, serviceId: 7))
        == "{\"message\":\"x\",\"isStdErr\":true,\"timestamp\":5,\"serviceId\":7}\n")
    #expect(
      text(LogRecord(message: "x", timestamp: 5, isSystem: true, isEvent: true))
        == "{\"message\":\"x\",\"isSystem\":true,\"timestamp\":5}\n")
    #expect(
      text(LogRecord(message: "x", timestamp: 5, isSystem: true))
        == "{\"message\":\"x\",\"isStdErr\":false,\"isSystem\":true,\"timestamp\":5}\n")
  }

  @Test func aMessageIsCutAtTenThousandCharactersAndNotBefore() throws {
    let long = String(repeating: "ä", count: 10_000)
    #expect(LogRecord.cut(long) == long)
    let cut = LogRecord.cut(long + "ä")
    #expect(cut.count == 10_000 && cut.hasSuffix("ä[...]"))
  }

  @Test func aRecordIsForTheCloudWhenItIsOfTheSystemOrOfAService() {
    #expect(LogRecord(message: "", timestamp: 0, isSystem: true).isForCloud)
    #expect(LogRecord(message: "", timestamp: 0, serviceId: 1).isForCloud)
    #expect(!LogRecord(message: "", timestamp: 0).isForCloud)
  }

  @Test func linesHaveABoundInBytesAndKeepTheirOrder() {
    var queue = LogQueue()
    var count = 0
    while queue.hasRoom {
      queue.add(LogRecord(message: "\(count)", timestamp: 0, serviceId: 1))
      count += 1
    }
    #expect(count < LogQueue.byteLimit)
    var taken: [LogRecord] = []
    while !queue.isEmpty { taken += queue.take(limit: 100, now: 0) }
    #expect(taken.map(\.message) == (0..<count).map(String.init))
    #expect(queue.hasRoom)
  }

  @Test func emptyLinesHaveABoundToo() {
    var queue = LogQueue()
    var count = 0
    while queue.hasRoom, count < LogQueue.byteLimit {
      queue.add(LogRecord(message: "", timestamp: 0, serviceId: 1))
      count += 1
    }
    #expect(count <= LogQueue.byteLimit / LogQueue.recordCost + 1)
    #expect(queue.take(limit: 32 * 1024, now: 0).count <= 32 * 1024 / LogQueue.recordCost + 1)
    while !queue.isEmpty { _ = queue.take(limit: 32 * 1024, now: 0) }
    #expect(queue.hasRoom)
  }

  @Test func whatWasSuppressedIsSaidAlsoWhenNoNewEventWaits() {
    var queue = LogQueue()
    queue.putBack(
      (0..<LogQueue.systemLimit + 2).map {
        LogRecord(message: "\($0)", timestamp: 0, isSystem: true, isEvent: true)
      })
    #expect(
      queue.take(limit: .max, now: 9).first?.message == "Warning: Suppressed 2 message(s) due to high load")
    queue.add(LogRecord(message: "x", timestamp: 0, serviceId: 1))
    #expect(queue.take(limit: .max, now: 9).map(\.message) == ["x"])
  }

  @Test func theNewestEventsAreKeptAndTheOthersCounted() {
    var queue = LogQueue()
    for number in 0..<LogQueue.systemLimit + 3 {
      queue.add(LogRecord(message: "\(number)", timestamp: 0, isSystem: true, isEvent: true))
    }
    let taken = queue.take(limit: .max, now: 9)
    #expect(taken.first?.message == "Warning: Suppressed 3 message(s) due to high load")
    #expect(taken.first?.isStdErr == true && taken.first?.isSystem == true && taken.first?.timestamp == 9)
    #expect(taken.dropFirst().map(\.message) == (3..<LogQueue.systemLimit + 3).map(String.init))
    // It is not lost with its connection.
    queue.putBack([taken[0]])
    #expect(queue.take(limit: .max, now: 10) == [taken[0]])
    queue.add(LogRecord(message: "later", timestamp: 0, isSystem: true, isEvent: true))
    #expect(queue.take(limit: .max, now: 9).map(\.message) == ["later"])
  }

  @Test func whatComesBackFromADeadConnectionGoesFirst() {
    var queue = LogQueue()
    queue.add(LogRecord(message: "2", timestamp: 0, serviceId: 1))
    queue.putBack([
      LogRecord(message: "0", timestamp: 0, serviceId: 1),
      LogRecord(message: "1", timestamp: 0, serviceId: 1),
    ])
    #expect(queue.take(limit: .max, now: 0).map(\.message) == ["0", "1", "2"])
    #expect(queue.isEmpty)
  }

  @Test func whatTheSourceBringsAgainIsForgottenAndEventsAreNot() {
    var queue = LogQueue()
    queue.add(LogRecord(message: "line", timestamp: 0, serviceId: 1))
    queue.add(LogRecord(message: "event", timestamp: 0, isSystem: true, isEvent: true))
    queue.putBack([LogRecord(message: "earlier event", timestamp: 0, isSystem: true, isEvent: true)])
    queue.removeLines()
    #expect(queue.take(limit: .max, now: 0).map(\.message) == ["earlier event", "event"])
    #expect(queue.dropped == 0)
  }
}
