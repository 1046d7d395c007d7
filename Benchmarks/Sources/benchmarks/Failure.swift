/// A benchmark that could not be taken; the message is for the person who started it.
nonisolated struct Failure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
