import JSON

nonisolated extension Subject {
  /// What was parsed, written and parsed again is the same value.
  public static let json = Subject(name: "json") { bytes in
    guard let value = try? JSON(parsing: bytes) else { return }
    let written = value.bytes()
    guard let again = try? JSON(parsing: written) else { preconditionFailure("what was written is no JSON") }
    precondition(again.bytes() == written, "writing is not stable")
  }
}
