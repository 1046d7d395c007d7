import EventLoop
import TestSupport
import Testing

@testable import Journal

/// A file of the journal with bytes that are others, at random places, or with its end cut off: whatever is asked
/// of it ends, and gives entries that were written, each once and in their order.
@Suite(.serialized)
struct RandomDamageTests {
  private static let count = 1200

  /// Tells itself whether it is whole.
  private nonisolated static func message(_ number: Int) -> String {
    let check = UInt64(number + 1) &* 0x9e37_79b9_7f4a_7c15
    return "message \(number) \(String(check, radix: 16))"
  }

  private static func entry(_ number: Int) -> String {
    let boot = String(repeating: number < count / 2 ? "aa" : "bb", count: 16)
    let container = String(repeating: "1", count: 64)
    return """
      __REALTIME_TIMESTAMP=\(1_690_000_000_000_000 + number * 1000)
      __MONOTONIC_TIMESTAMP=\(number * 1000 + 1)
      _BOOT_ID=\(boot)
      MESSAGE=\(message(number))
      PRIORITY=\(number % 8)
      SYSLOG_IDENTIFIER=writer-\(number % 3)
      _SYSTEMD_UNIT=docker.service
      CONTAINER_ID_FULL=\(container)
      LARGE=\(String(repeating: "x\(number)", count: number.isMultiple(of: 50) ? 2000 : 1))


      """
  }

  private static let queries: [JournalQuery] = {
    func query(_ change: (inout JournalQuery) -> Void) -> JournalQuery {
      var query = JournalQuery()
      query.format = .cat
      change(&query)
      return query
    }
    return [
      query { _ in }, query { $0.count = 100 }, query { $0.since = 1_690_000_000_600_000 },
      query { $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["writer-1"]) },
      query {
        $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["writer-1", "writer-2"])
        $0.count = 300
      },
      query { $0.unitGlobs = ["dock*"] },
      query { $0.format = .json },
    ]
  }()

  private static func numbers(_ text: String) -> [Int] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard words.count == 3, let number = Int(words[1]), line == message(number) else { return nil }
      return number
    }
  }

  private static func expectInOrder(_ numbers: [Int], _ what: String) {
    #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "\(what): \(numbers)")
  }

  @Test func whateverIsAskedEndsInOrder() async throws {
    let fixture = JournalFixture()
    try await fixture.make(Array((0..<Self.count).map(Self.entry).joined().utf8), name: "odd.journal")
    let whole = contents(of: fixture.path)
    var generator = SeededGenerator(seed: 11)
    var read = 0
    for round in 0..<30 {
      var bytes = whole
      // Most in the part that is written, some in the header of 272 bytes.
      for _ in 0..<Int.random(in: 1...12, using: &generator) {
        let place = Int.random(
          in: (round.isMultiple(of: 6) ? 16 : 272)..<(bytes.count * 3 / 4), using: &generator)
        for offset in 0..<Int.random(in: 1...24, using: &generator) {
          bytes[place + offset] = UInt8.random(in: 0...255, using: &generator)
        }
      }
      if round.isMultiple(of: 5) { bytes.removeLast(Int.random(in: 1..<bytes.count / 2, using: &generator)) }
      write(bytes, to: fixture.path)
      for (index, query) in Self.queries.enumerated() {
        guard let stream = try? JournalStream(.files([fixture.path]), query) else { continue }
        var output: [UInt8] = []
        while let piece = await stream.next() { output += piece }
        stream.close()
        try #require(output.count < 4 * whole.count)
        guard query.format == .cat else { continue }
        let numbers = Self.numbers(String(decoding: output, as: UTF8.self))
        Self.expectInOrder(numbers, "round \(round), query \(index)")
        read += numbers.count
      }
      try await follow(fixture, "round \(round)")
    }
    #expect(read > 40_000)
  }

  /// The lines of a container up to where nothing more comes.
  private func follow(_ fixture: JournalFixture, _ what: String) async throws {
    guard let follower = try? LogFollower(.files([fixture.path]), from: .time(0)) else { return }
    follower.containers = [
      String(repeating: "1", count: 64): LoggedContainer(serviceId: 1, serviceName: "one", level: .all)
    ]
    let timer = EventLoop.shared.schedule(after: .milliseconds(60)) { follower.close() }
    var numbers: [Int] = []
    while let batch = await follower.next() {
      numbers += batch.records.flatMap { Self.numbers($0.message) }
      timer.restart(after: .milliseconds(30))
    }
    timer.cancel()
    Self.expectInOrder(numbers, what)
  }
}
