/// What is fuzzed: a reader of bytes from outside and the laws that it has to keep for every input.
///
/// libFuzzer calls it through the executables in `Fuzz/Targets` (`make fuzz`); the tests replay the inputs
/// kept in `Fuzz/Corpus`. A broken law traps, which both report with the input.
public nonisolated struct Subject: Sendable {
  /// Also the name of its folder in `Fuzz/Corpus`.
  public let name: String
  public let read: @Sendable ([UInt8]) -> Void

  public static let all: [Subject] = [json, document, command, body, request, route]
}
