import Testing

@testable import Journal

/// The oracle is journalctl itself, on the same file.
@Suite(.serialized)
struct FormatTests {
  /// Options of journalctl, and the same for us.
  nonisolated struct Case: Sendable, CustomStringConvertible {
    let arguments: [String]
    let change: @Sendable (inout JournalQuery) -> Void
    var description: String { arguments.joined(separator: " ") }

    init(_ arguments: String, _ change: @escaping @Sendable (inout JournalQuery) -> Void) {
      self.arguments = arguments.split(separator: " ").map { String($0) }
      self.change = change
    }
  }

  @Test(arguments: OutputFormat.allCases, [false, true])
  func everyFormatIsByteForByteWhatJournalctlPrints(_ format: OutputFormat, showsAll: Bool) async throws {
    var query = JournalQuery()
    query.format = format
    query.showsAll = showsAll
    try await compare(query, ["-o", format.rawValue] + (showsAll ? ["--all"] : []))
  }

  nonisolated static let filters: [Case] = [
    Case("-n 1") { $0.count = 1 },
    Case("-n 250") { $0.count = 250 },
    Case("-n 5000") { $0.count = 5000 },
    Case("-t ident1") { $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["ident1"]) },
    Case("-t nobody") { $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["nobody"]) },
    Case("-u a -t ident1") {
      $0.filter.require(units: ["a.service"])
      $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["ident1"])
    },
    Case("-u x-y.slice -n 5") {
      $0.filter.require(units: ["x-y.slice"])
      $0.count = 5
    },
    Case("-u [ab].*") { $0.unitGlobs = ["[ab].*"] },
    Case("-p 3") { $0.priority = 3 },
    Case("-p 0") { $0.priority = 0 },
    Case("-u a -p 2") {
      $0.filter.require(units: ["a.service"])
      $0.priority = 2
    },
    Case("-u [ab].* -p 4 -n 40") {
      $0.unitGlobs = ["[ab].*"]
      $0.priority = 4
      $0.count = 40
    },
    Case("-t ident1 -p 1 -S @1690050000 -n 3") {
      $0.filter.require("SYSLOG_IDENTIFIER", oneOf: ["ident1"])
      $0.priority = 1
      $0.since = 1_690_050_000_000_000
      $0.count = 3
    },
    Case("-S @1690100000") { $0.since = 1_690_100_000_000_000 },
    Case("-U @1690100000") { $0.until = 1_690_100_000_000_000 },
    Case("-S @1690050000 -U @1690100000") {
      $0.since = 1_690_050_000_000_000
      $0.until = 1_690_100_000_000_000
    },
    Case("-S @1690050000 -n 9") {
      $0.since = 1_690_050_000_000_000
      $0.count = 9
    },
    Case("-U @1690050000 -n 9") {
      $0.until = 1_690_050_000_000_000
      $0.count = 9
    },
    Case("-S @1990200000") { $0.since = 1_990_200_000_000_000 },
  ]

  @Test(arguments: filters, [OutputFormat.short, .json])
  func filtersSelectWhatJournalctlSelects(_ filter: Case, format: OutputFormat) async throws {
    var query = JournalQuery()
    query.format = format
    filter.change(&query)
    try await compare(query, ["-o", format.rawValue] + filter.arguments)
  }

  private func compare(_ query: JournalQuery, _ arguments: [String]) async throws {
    let fixture = try await JournalFixture.odd()
    let printed = try await fixture.journalctl(arguments).output
    let read = try await fixture.read(query)
    if printed == read { return }
    let theirs = Canonical.lines(printed, query.format)
    let ours = Canonical.lines(read, query.format)
    #expect(ours.count == theirs.count)
    for (index, (mine, other)) in zip(ours, theirs).enumerated() where mine != other {
      Issue.record(
        """
        line \(index) of \(arguments):
        \(String(decoding: mine.prefix(400), as: UTF8.self))
        \(String(decoding: other.prefix(400), as: UTF8.self))
        """)
      return
    }
  }

  @Test func aStreamGoesOnBehindACursor() async throws {
    let fixture = try await JournalFixture.odd()
    var query = JournalQuery()
    query.format = .export
    let all = String(decoding: try await fixture.read(query), as: UTF8.self)
    let cursors = all.split(separator: "\n").filter { $0.hasPrefix("__CURSOR=") }.map {
      String($0.dropFirst(9))
    }
    query.cursor = cursors[200]
    let rest = String(decoding: try await fixture.read(query), as: UTF8.self)
    let found = rest.split(separator: "\n").filter { $0.hasPrefix("__CURSOR=") }.map {
      String($0.dropFirst(9))
    }
    #expect(found == Array(cursors[201...]))
  }

  @Test func aTextThatIsNoCursorIsRefused() async throws {
    let fixture = try await JournalFixture.odd()
    var query = JournalQuery()
    query.cursor = "tomorrow"
    #expect(throws: JournalError.self) { _ = try JournalStream(.files([fixture.path]), query) }
  }

  @Test(arguments: [nil, 3])
  func grepIsAppliedBeforeCount(_ count: Int?) async throws {
    let fixture = try await JournalFixture.odd()
    var query = JournalQuery()
    query.format = .cat
    let all = String(decoding: try await fixture.read(query), as: UTF8.self)
    let hits = all.split(separator: "\n").filter { $0.hasPrefix("message ") && $0.contains("7 of words") }
    query.grep = "7 OF words"
    #expect(try await fixture.read(query).isEmpty)
    query.grep = "7 of words"
    query.count = count
    let found = String(decoding: try await fixture.read(query), as: UTF8.self).split(separator: "\n")
    #expect(!hits.isEmpty)
    #expect(found == Array(hits.suffix(count ?? hits.count)))
  }

  @Test func aServiceIsFoundByTheNamesOfItsContainers() async throws {
    let fixture = try await JournalFixture.odd()
    var query = JournalQuery()
    query.format = .export
    query.service = "main"
    let text = String(decoding: try await fixture.read(query), as: UTF8.self)
    let entries = text.split(separator: "\n").count { $0.hasPrefix("__CURSOR=") }
    #expect(entries > 0)
    #expect(text.split(separator: "\n").count { $0.hasPrefix("CONTAINER_NAME=main_") } == entries)
    query.service = "mai"
    #expect(try await fixture.read(query).isEmpty)
  }
}
