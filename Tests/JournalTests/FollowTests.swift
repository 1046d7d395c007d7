import EventLoop
import TestSupport
import Testing

@testable import Journal

/// Journal files of entries with few fields, and those who follow them.
@Suite(.serialized)
struct FollowTests {
  /// One entry in export format.
  private static func entry(_ number: Int, boot: String = "aa", _ fields: [(String, String)]) -> String {
    let boot = String(repeating: boot, count: 16)
    let lines = fields.map { "\($0)=\($1)\n" }.joined()
    return
      "__REALTIME_TIMESTAMP=\(1_690_000_000_000_000 + number * 1_000_000)\n__MONOTONIC_TIMESTAMP=\(number * 1000 + 1)\n_BOOT_ID=\(boot)\n\(lines)\n"
  }

  private func fixture(_ entries: [String]) async throws -> JournalFixture {
    let fixture = JournalFixture()
    try await fixture.make(Array(entries.joined().utf8), name: "odd.journal")
    return fixture
  }

  @Test(
    arguments: zip(
      [["aa", "cc"], ["aa", "cc", "aa"], ["aa", "cc"], ["aa"]],
      [[], ["-n", "2"], ["-S", "@1690000002"], ["-S", "@1690000002"]]))
  func aFollowerOfSeveralBootsBeginsAsJournalctlDoes(_ boots: [String], _ options: [String]) async throws {
    let fixture = try await fixture(
      boots.enumerated().flatMap { index, boot in
        (0..<4).map { Self.entry(index * 4 + $0, boot: boot, [("MESSAGE", "\(boot) \($0)")]) }
      })
    let oracle = try await ChildProcess.run(
      "/usr/bin/timeout",
      ["-s", "KILL", "4", "/usr/bin/journalctl", "--no-pager", "-f", "-o", "cat", "--file", fixture.path]
        + options,
      environment: ["LANG": "C.UTF-8"], timeout: .seconds(60))
    var query = JournalQuery()
    query.format = .cat
    query.follows = true
    if options.first == "-n" { query.count = 2 }
    if options.first == "-S" { query.since = 1_690_000_002_000_000 }
    let stream = try JournalStream(.files([fixture.path]), query)
    let opening = await stream.next()
    stream.close()
    #expect(!oracle.output.isEmpty)
    #expect(
      opening.map { String(decoding: $0, as: UTF8.self) } == String(decoding: oracle.output, as: UTF8.self))
  }

  // MARK: Lines of containers

  private static let known = String(repeating: "1", count: 64)
  private static let stranger = String(repeating: "2", count: 64)

  private static func line(
    _ number: Int, _ container: String, _ text: String, part: String? = nil, last: Bool = false,
    isError: Bool = false
  ) -> String {
    var fields = [
      ("_COMM", "dockerd"), ("CONTAINER_ID_FULL", container), ("PRIORITY", isError ? "3" : "6"),
      ("MESSAGE", text),
    ]
    if part != nil { fields.append(("CONTAINER_PARTIAL_MESSAGE", "true")) }
    if let part, !part.isEmpty {
      fields += [("CONTAINER_PARTIAL_ID", part), ("CONTAINER_PARTIAL_LAST", last ? "true" : "false")]
    }
    return entry(number, fields)
  }

  private func follower(_ fixture: JournalFixture, from start: LogFollower.Start = .time(0)) throws
    -> LogFollower
  {
    let follower = try LogFollower(.files([fixture.path]), from: start)
    follower.containers = [Self.known: LoggedContainer(serviceId: 1, serviceName: "main", level: .all)]
    return follower
  }

  @Test(arguments: [true, false])
  func whatIsKeptIsReadAgainByTheNextFollower(_ isPart: Bool) async throws {
    let kept =
      isPart
      ? Self.line(2, Self.known, "half", part: "p", isError: true)
      : Self.line(2, Self.stranger, "of a stranger")
    let fixture = try await fixture([
      Self.line(1, Self.known, "one"), kept, Self.line(3, Self.known, "three"),
    ])
    let first = try follower(fixture)
    let batch = try #require(await first.next())
    first.close()
    #expect(batch.records.map(\.message) == ["one", "three"])
    let place = try #require(batch.cursor)
    let time = place.split(separator: ";").first { $0.hasPrefix("t=") }.map { String($0.dropFirst(2)) }
    #expect(time == String(1_690_000_001_000_000, radix: 16))
    let second = try follower(fixture, from: .cursor(place, otherwise: 0))
    second.containers[Self.stranger] = LoggedContainer(serviceId: 2, serviceName: "other", level: .all)
    let rest = try #require(await second.next())
    second.close()
    #expect(rest.records.map(\.message) == (isPart ? ["three"] : ["of a stranger", "three"]))
  }

  @Test func aLineInPartsIsWholeAndThenNothingIsKept() async throws {
    let fixture = try await fixture([
      Self.line(1, Self.known, "one"), Self.line(2, Self.known, "a", part: "p"),
      Self.line(3, Self.known, "b", part: "q", isError: true),
      Self.line(4, Self.known, "A", part: "p", last: true),
      Self.line(5, Self.known, "B", part: "q", last: true, isError: true),
    ])
    let follower = try follower(fixture)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == ["one", "aA", "bB"])
    let end = String(1_690_000_005_000_000, radix: 16)
    #expect(batch.cursor?.contains(";t=\(end);") == true)
  }

  /// What a container leaves without a line feed when it ends has no last part.
  @Test func aLineWithoutAnEndIsGivenWhenTheStreamGoesOn() async throws {
    let fixture = try await fixture([
      Self.line(1, Self.known, "fatal", part: "p"), Self.line(2, Self.known, "started"),
      Self.line(3, Self.known, "fatal again", part: "q"), Self.line(3, Self.known, "and again", part: "r"),
      Self.line(4, Self.known, "!", part: "r", last: true),
    ])
    let follower = try follower(fixture)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == ["fatal", "started", "fatal again", "and again!"])
  }

  @Test func aLineWithoutAnEndIsGivenWhenNothingComes() async throws {
    let fixture = try await fixture([Self.line(1, Self.known, "fatal: no config", part: "p")])
    let follower = try follower(fixture)
    let batch = try #require(await follower.next())
    #expect(batch.records.map(\.message) == ["fatal: no config"])
    #expect(batch.cursor?.contains(";t=\(String(1_690_000_001_000_000, radix: 16));") == true)
    follower.close()
  }

  @Test func aLineWithoutAnEndIsGivenWhileOthersWriteOn() async throws {
    let fixture = try await fixture(
      [Self.line(1, Self.known, "fatal", part: "p", isError: true)]
        + (1...100).map { Self.line($0, Self.known, "\($0)") })
    let follower = try follower(fixture)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.last?.message == "fatal")
    #expect(batch.records.count == LogFollower.entriesPerTurn)
  }

  /// Some engines name no line; all its parts but the last are marked.
  @Test func aLineInPartsWithoutNamesIsWhole() async throws {
    let fixture = try await fixture([
      Self.line(1, Self.known, "a", part: ""), Self.line(2, Self.known, "b", part: ""),
      Self.line(3, Self.known, "c"), Self.line(4, Self.known, "d"),
    ])
    let follower = try follower(fixture)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == ["abc", "d"])
  }

  // MARK: Containers that are not known

  @Test func linesThatNobodyWantsAreNotKept() async throws {
    let fixture = try await fixture([
      Self.line(1, Self.known, "one"), Self.line(2, Self.stranger, "the agent's own"),
      Self.line(3, Self.stranger, "and a part of it", part: "p"),
    ])
    let follower = try follower(fixture)
    follower.containers[Self.stranger] = LoggedContainer(serviceId: 0, serviceName: "", level: .none)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == ["one"])
    #expect(batch.cursor?.contains(";t=\(String(1_690_000_003_000_000, radix: 16));") == true)
  }

  @Test func noMoreLinesOfStrangersAreKeptThanThereIsRoomFor() async throws {
    let number = StrangeLines.limit + 20
    let fixture = try await fixture(
      (0..<number).map { Self.line($0, Self.stranger, "line \($0)") } + [
        Self.line(number, Self.known, "last")
      ])
    let follower = try follower(fixture)
    _ = try #require(await follower.next())
    follower.containers[Self.stranger] = LoggedContainer(serviceId: 2, serviceName: "other", level: .all)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == (20..<number).map { "line \($0)" })
  }

  @Test(arguments: [1, 4000])
  func aStrangerThatWritesMuchPushesOutNobodyElse(_ length: Int) async throws {
    let other = String(repeating: "3", count: 64)
    let long = String(repeating: "x", count: length)
    let fixture = try await fixture(
      [Self.line(0, other, "first"), Self.line(1, other, "second")]
        + (0..<600).map { Self.line($0 + 2, Self.stranger, "\(long) \($0)") } + [
          Self.line(700, Self.known, "last")
        ])
    let follower = try follower(fixture)
    _ = try #require(await follower.next())
    follower.containers[other] = LoggedContainer(serviceId: 2, serviceName: "other", level: .all)
    let batch = try #require(await follower.next())
    follower.close()
    #expect(batch.records.map(\.message) == ["first", "second"])
  }

  @Test(arguments: ["needle", "NEEDLE", "Needle"])
  func textIsFoundInOneTurnHoweverItRepeats(_ word: String) async throws {
    let rows = String(repeating: "a", count: 15_000)
    let fixture = try await fixture(
      (0..<300).map { Self.entry($0, [("MESSAGE", "\(rows)\($0)")]) } + [
        Self.entry(300, [("MESSAGE", "a Needle in it")])
      ])
    #expect(
      try await read(fixture) { $0.grep = word }.0 == (word == "NEEDLE" ? [] : ["a Needle in it"]))
    // What is compared at each place of each message again would take minutes.
    #expect(try await read(fixture) { $0.grep = String(repeating: "a", count: 7500) + "b" }.0.isEmpty)
  }

  @Test(arguments: [UInt64.max, 1_690_000_000_000_000])
  func aFollowerFromTheEndOfTimeOutlivesTheFile(_ since: UInt64) async throws {
    let fixture = try await fixture((0..<50).map { Self.entry($0, [("MESSAGE", "m \($0)")]) })
    var query = JournalQuery()
    query.format = .cat
    query.follows = true
    query.since = since
    let stream = try JournalStream(.files([fixture.path]), query)
    let reading = Task {
      var text: [UInt8] = []
      while let piece = await stream.next() { text += piece }
      return text
    }
    try await EventLoop.shared.sleep(for: .milliseconds(100))
    write([], to: fixture.path)
    try await EventLoop.shared.sleep(for: .milliseconds(500))
    stream.close()
    let text = String(decoding: await reading.value, as: UTF8.self)
    #expect(text.split(separator: "\n").count == (since == .max ? 0 : 50))
  }

  @Test func aFollowerUpToATimeGoesOnLikeJournalctl() async throws {
    let fixture = try await fixture((0..<5).map { Self.entry($0, [("MESSAGE", "m \($0)")]) })
    var query = JournalQuery()
    query.format = .cat
    query.follows = true
    query.until = 1_690_000_002_000_000
    let stream = try JournalStream(.files([fixture.path]), query)
    #expect(await stream.next() == Array("m 0\nm 1\nm 2\n".utf8))
    var hasEnded = false
    let rest = Task {
      let piece = await stream.next()
      hasEnded = true
      return piece
    }
    try await EventLoop.shared.sleep(for: .milliseconds(300))
    #expect(!hasEnded)
    stream.close()
    #expect(await rest.value == nil)
  }

  /// Nothing between the two comes within a turn's few steps back; nothing is lost all the same.
  @Test func manyStrangersBetweenLinesKeepAPlaceBeforeThem() async throws {
    let fixture = try await fixture(
      (0..<40).flatMap { number in
        [
          Self.line(number, Self.known, "known \(number)"),
          Self.line(number, Self.stranger, "strange \(number)"),
        ]
      })
    let first = try follower(fixture)
    let batch = try #require(await first.next())
    first.close()
    let place = try #require(batch.cursor)
    let second = try follower(fixture, from: .cursor(place, otherwise: 0))
    second.containers[Self.stranger] = LoggedContainer(serviceId: 2, serviceName: "other", level: .all)
    var messages: [String] = []
    while messages.last != "strange 39", let batch = await second.next() {
      messages += batch.records.map(\.message)
    }
    second.close()
    #expect(messages.filter { $0.hasPrefix("strange") } == (0..<40).map { "strange \($0)" })
  }

  // MARK: Damage

  /// 3000 entries in a file, of which objects of a type (journal-file format, "Objects") behind a message are
  /// overwritten.
  private func damaged(behind number: Int, type: UInt8, sizes: Range<Int>, most: Int) async throws
    -> JournalFixture
  {
    let fixture = try await fixture(
      (0..<3000).map {
        Self.entry($0, [("MESSAGE", "message \($0)"), ("SYSLOG_IDENTIFIER", "writer"), ("NUMBER", "\($0)")])
      })
    var bytes = contents(of: fixture.path)
    let begin = try #require(Self.find("message \(number)", in: bytes))
    var damaged = 0
    var offset = begin & ~7
    while damaged < most, offset + 16 < bytes.count {
      let size = (8..<12).reduce(0) { $0 | Int(bytes[offset + $1]) << (($1 - 8) * 8) }
      if bytes[offset] == type, bytes[(offset + 1)..<(offset + 8)].allSatisfy({ $0 == 0 }),
        sizes.contains(size)
      {
        bytes[offset] = 0x77
        damaged += 1
        offset += size & ~7
      } else {
        offset += 8
      }
    }
    try #require(damaged > 0)
    write(bytes, to: fixture.path)
    return fixture
  }

  private static func find(_ text: String, in bytes: [UInt8]) -> Int? {
    let text = Array(text.utf8)
    return bytes.indices.first { bytes[$0] == text[0] && bytes[$0...].starts(with: text) }
  }

  /// The messages, and how much was lost.
  private func read(_ fixture: JournalFixture, _ change: (inout JournalQuery) -> Void = { _ in }) async throws
    -> (
      [Substring], Int
    )
  {
    var query = JournalQuery()
    query.format = .cat
    change(&query)
    let stream = try JournalStream(.files([fixture.path]), query)
    var told = 0
    stream.onLoss = { lost, _ in told += lost }
    var text: [UInt8] = []
    while let piece = await stream.next() { text += piece }
    stream.close()
    #expect(told == stream.lost)
    return (String(decoding: text, as: UTF8.self).split(separator: "\n"), stream.lost)
  }

  @Test func entriesThatAreDamagedAreSkipped() async throws {
    let fixture = try await damaged(behind: 1500, type: 3, sizes: 64..<256, most: 5)
    let (lines, _) = try await read(fixture)
    #expect(lines.first == "message 0")
    #expect(lines.last == "message 2999")
    #expect(lines.count < 3000 && lines.count >= 2995)
  }

  @Test func anIndexThatIsBrokenOffIsCounted() async throws {
    let fixture = try await damaged(behind: 600, type: 6, sizes: 24..<(1 << 20), most: 10_000)
    let (lines, lost) = try await read(fixture)
    #expect(lines.count >= 600 && lines.count < 3000)
    #expect(lost == 1)
  }

  @Test func aFileThatCannotBeReadOnIsCounted() async throws {
    let fixture = try await fixture(
      (0..<100).map { Self.entry($0, [("MESSAGE", "m \($0)"), ("MARK", "yes")]) })
    var bytes = contents(of: fixture.path)
    let place = try #require(Self.find("MARK=yes", in: bytes))
    // The payload of a data object begins at 64, in compact files at 72.
    for header in [place - 64, place - 72] where bytes[header] == 1 { bytes[header] = 0x77 }
    write(bytes, to: fixture.path)
    let (lines, lost) = try await read(fixture) { $0.filter.require("MARK", oneOf: ["yes"]) }
    #expect(lines.isEmpty)
    #expect(lost == 1)
    // Others are not concerned.
    #expect(
      try await read(fixture) { $0.filter.require("_BOOT_ID", oneOf: [String(repeating: "aa", count: 16)]) }.1
        == 0)
  }

  @Test func aUnitWhoseNameIsNoUTF8IsFoundByAPattern() async throws {
    let fixture = JournalFixture()
    let export = Array(Self.entry(1, [("MESSAGE", "one"), ("_SYSTEMD_UNIT", "b.service")]).utf8)
    let value: [UInt8] = [UInt8(ascii: "a"), 0xff, 0xfe] + Array(".service".utf8)
    let head = Self.entry(2, [("MESSAGE", "two")]).dropLast()
    let length = (0..<8).map { UInt8(truncatingIfNeeded: value.count >> ($0 * 8)) }
    try await fixture.make(
      export + Array(head.utf8) + Array("_SYSTEMD_UNIT\n".utf8) + length + value + [0x0a, 0x0a],
      name: "odd.journal")
    var query = JournalQuery()
    query.format = .cat
    query.unitGlobs = ["a*"]
    #expect(try await fixture.read(query) == Array("two\n".utf8))
    #expect(try await fixture.journalctl(["-o", "cat", "-u", "a*"]).output == Array("two\n".utf8))
  }

  @Test(arguments: [0, 1, 9_999_999, 10_000_000, 123_456_789_012] as [UInt64])
  func followersLookAtTheSameMoments(_ nanoseconds: UInt64) {
    let now = MonotonicTime(nanoseconds: nanoseconds)
    for interval in [JournalStream.closeLook, JournalStream.look] {
      let delay = JournalStream.untilShared(interval, at: now)
      #expect(delay > .zero)
      #expect(delay <= interval)
      let length = UInt64(interval / .nanoseconds(1))
      #expect((now + delay).nanoseconds % length == 0)
    }
  }
}
