import FuzzSubjects
import Glibc
import TestSupport
import Testing

@Suite("The inputs that fuzzing found")
struct CorpusTests {
  private static let corpus =
    String(#filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" })
    + "/Fuzz/Corpus"

  @Test("keep every law", arguments: Subject.all.map(\.name))
  func keepEveryLaw(name: String) throws {
    let subject = try #require(Subject.all.first { $0.name == name })
    let names = Scratch.names(in: "\(Self.corpus)/\(name)")
    #expect(names.count > 10, "the corpus of \(name) is missing")
    for file in names { subject.read(contents(of: "\(Self.corpus)/\(name)/\(file)")) }
  }
}
