import HTTP

/// Answers that are serialised once and sent until what they say has changed.
final class PreparedAnswers {
  enum Kind: Int { case device, stateStatus, applicationsState }

  private struct Entry {
    var revision: UInt64
    var answer: PreparedResponse
  }

  private var entries = [Entry?](repeating: nil, count: 3)
  /// Times that an answer was made.
  private(set) var builds = 0

  /// - Parameters:
  ///   - revision: of everything that the answer is about.
  ///   - make: called when there is no answer of that revision.
  func answer(_ kind: Kind, revision: UInt64, _ make: () -> Response) -> Response {
    if let kept = entries[kind.rawValue], kept.revision == revision { return .prepared(kept.answer) }
    let answer = PreparedResponse(make())
    entries[kind.rawValue] = Entry(revision: revision, answer: answer)
    builds += 1
    return .prepared(answer)
  }
}
