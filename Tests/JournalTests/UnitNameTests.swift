import Testing

@testable import Journal

@Suite(.serialized)
struct UnitNameTests {
  @Test(arguments: [
    "nginx", "nginx.service", "a.slice", "user@1000", "a@b.service", "/home", "/", "/dev/sda1", "/sys/x y",
    "/var/lib/do-cker", "/.hidden/.x", "/a/../b", "foo bar", "grün", "a.b", "a.b.mount", "x/y", "@x.service",
    "semi;colon", "per%cent", "home.mount", "a\\x2db", "a~b", "dash-ed", "under_score", ".service",
  ])
  func aUnitMeansWhatItMeansToJournalctl(_ text: String) async throws {
    let fixture = try await JournalFixture.odd()
    let messages = try await fixture.journalctl(
      ["-u", text, "-o", "cat", "-n", "1"], environment: ["SYSTEMD_LOG_LEVEL": "debug"]
    ).messages
    let prefix = "Journal filter: "
    let line = try #require(messages.split(separator: "\n").first { $0.contains(prefix) })
    guard case .name(let name) = UnitName.parse(text) else {
      Issue.record("\(text) is no name")
      return
    }
    var filter = JournalFilter()
    filter.require(units: [name])
    #expect(Self.matches(String(line)) == Set(filter.groups[0].map { Set($0.map(\.text)) }))
  }

  /// `((A=1 AND (B=2)) OR (C=3))` as the set of alternatives, each the set of its matches.
  private static func matches(_ line: String) -> Set<Set<String>> {
    guard let filter = line.split(separator: "Journal filter: ").last else { return [] }
    let alternatives = filter.split(separator: " OR ")
    return Set(
      alternatives.map { alternative in
        Set(
          alternative.split(separator: " AND ").map { match in
            var text = match[...]
            while text.first == "(" { text.removeFirst() }
            while text.last == ")" { text.removeLast() }
            return text.split(separator: "\\\\", omittingEmptySubsequences: false).joined(separator: "\\")
          })
      })
  }

  @Test func anEmptyNameIsNone() { #expect(UnitName.parse("") == nil) }

  @Test func patternsStayPatterns() {
    #expect(UnitName.parse("ngin*") == .glob("ngin*"))
    #expect(UnitName.parse("[ab]?.service") == .glob("[ab]?.service"))
    #expect(UnitName.parse("a b*") == .glob("a\\x20b*"))
  }
}
