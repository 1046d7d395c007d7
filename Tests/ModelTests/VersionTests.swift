import JSON
import Testing

@testable import Model

@Suite struct `Versions and ranges` {
  private nonisolated static var table: JSON { (try? Fixture.golden("versions.json")) ?? [:] }

  private nonisolated static var ranges: [GoldenCase] {
    (table["ranges"]?.arrayValue ?? []).map { GoldenCase(json: $0) }
  }

  @Test func `the table is there`() { #expect(Self.ranges.count >= 100) }

  @Test(arguments: Self.ranges)
  func `a range contains what it says`(golden: GoldenCase) throws {
    let range = try #require(VersionRange(parsing: golden.testDescription))
    for text in golden.json["contains"]?.stringList ?? [] {
      #expect(range.contains(try #require(SemanticVersion(parsing: text))), "\(text)")
    }
    for text in golden.json["excludes"]?.stringList ?? [] {
      #expect(!range.contains(try #require(SemanticVersion(parsing: text))), "\(text)")
    }
  }

  @Test(arguments: Self.table["notRanges"]?.stringList ?? [])
  func `other texts are no range`(text: String) {
    #expect(VersionRange(parsing: text) == nil)
  }

  @Test(arguments: Self.table["versions"]?.stringList ?? [])
  func `a version`(text: String) {
    #expect(SemanticVersion(parsing: text) != nil)
  }

  @Test(
    arguments: (Self.table["notVersions"]?.stringList ?? []) + ["1.2.3-" + String(repeating: "a", count: 251)]
  )
  func `other texts are no version`(text: String) {
    #expect(SemanticVersion(parsing: text) == nil)
  }

  @Test func `versions have one order`() throws {
    let texts = Self.table["ascending"]?.stringList ?? []
    let versions = try texts.map { try #require(SemanticVersion(parsing: $0)) }
    #expect(versions.count == 20)
    for (low, a) in versions.enumerated() {
      for (high, b) in versions.enumerated() {
        #expect((a < b) == (low < high), "\(texts[low]) and \(texts[high])")
      }
    }
  }
}
