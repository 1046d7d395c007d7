import HTTP

/// Answers that are serialised once and sent until what they say has changed.
final class PreparedAnswers {
  enum Kind: Int { case device, stateStatus, applicationsState }

  private struct Entry {
    var revision: UInt64
    var answer: PreparedResponse
  }

  /// Times that answers were made, for all keys together.
  final class Tally {
    fileprivate(set) var builds = 0
  }

  private var entries = [Entry?](repeating: nil, count: 3)
  let tally: Tally

  init(_ tally: Tally = Tally()) { self.tally = tally }

  /// Times that an answer was made.
  var builds: Int { tally.builds }

  /// - Parameters:
  ///   - revision: of everything that the answer is about.
  ///   - make: called when there is no answer of that revision.
  func answer(_ kind: Kind, revision: UInt64, _ make: () -> Response) -> Response {
    if let kept = entries[kind.rawValue], kept.revision == revision { return .prepared(kept.answer) }
    let answer = PreparedResponse(make())
    entries[kind.rawValue] = Entry(revision: revision, answer: answer)
    tally.builds += 1
    return .prepared(answer)
  }
}
