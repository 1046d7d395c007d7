import EventLoop
import TestSupport
import Testing

@testable import Journal

/// Journal files with what seldom happens in them, and `journalctl` to say what they contain.
final class JournalFixture {
  private static var shared: JournalFixture?
  private static let journalctl = "/usr/bin/journalctl"
  private static let remote = "/lib/systemd/systemd-journal-remote"

  let scratch = Scratch()
  var path: String { scratch.file("odd.journal") }

  /// Made once; all tests read the same files.
  static func odd() async throws -> JournalFixture {
    if let shared { return shared }
    let fixture = JournalFixture()
    var generator = OddEntries(seed: 7)
    try await fixture.make(generator.export(entries: 400), name: "odd.journal")
    shared = fixture
    return fixture
  }

  /// A journal file with the entries of a text in export format.
  func make(_ export: [UInt8], name: String) async throws {
    LoopDriver.start()
    TestSupport.write(export, to: scratch.file("export"))
    let outcome = try await ChildProcess.run(
      Self.remote, ["-o", scratch.file(name), scratch.file("export")], timeout: .seconds(120))
    guard outcome.isSuccess else {
      throw FixtureFailure(String(decoding: outcome.errorOutput, as: UTF8.self))
    }
  }

  func journalctl(
    _ arguments: [String], environment: [String: String] = [:]
  ) async throws -> (output: [UInt8], messages: String) {
    LoopDriver.start()
    let outcome = try await ChildProcess.run(
      Self.journalctl, ["--no-pager", "--file", path] + arguments,
      environment: environment.merging(["LANG": "C.UTF-8"]) { a, _ in a },
      outputLimitBytes: 128 << 20, timeout: .seconds(120))
    return (outcome.output, String(decoding: outcome.errorOutput, as: UTF8.self))
  }

  /// What the stream says, to its end.
  func read(_ query: JournalQuery) async throws -> [UInt8] {
    LoopDriver.start()
    let stream = try JournalStream(.files([path]), query)
    defer { stream.close() }
    var bytes: [UInt8] = []
    while let piece = await stream.next() { bytes += piece }
    #expect(stream.lost == 0)
    return bytes
  }
}

struct FixtureFailure: Error {
  let text: String
  init(_ text: String) { self.text = text }
}

/// The order of the members of an object is random in journalctl's output, from run to run. Everything
/// else is compared byte by byte: each object becomes its members' texts, sorted.
nonisolated enum Canonical {
  static func lines(_ bytes: [UInt8], _ format: OutputFormat) -> [[UInt8]] {
    switch format {
    case .json, .jsonSSE, .jsonSeq:
      bytes.split(separator: 0x0a, omittingEmptySubsequences: false).map { sortedMembers($0) }
    case .jsonPretty: pretty(bytes)
    default: bytes.split(separator: 0x0a, omittingEmptySubsequences: false).map { Array($0) }
    }
  }

  /// One line an object.
  private static func sortedMembers(_ line: ArraySlice<UInt8>) -> [UInt8] {
    guard let open = line.firstIndex(of: UInt8(ascii: "{")) else { return Array(line) }
    var members: [[UInt8]] = []
    var member: [UInt8] = []
    var depth = 0
    var isString = false
    var isEscaped = false
    for byte in line[(open + 1)...] {
      if isString {
        if isEscaped {
          isEscaped = false
        } else if byte == 0x5c {
          isEscaped = true
        } else if byte == 0x22 {
          isString = false
        }
      } else if byte == 0x22 {
        isString = true
      } else if byte == UInt8(ascii: "[") {
        depth += 1
      } else if byte == UInt8(ascii: "]") {
        depth -= 1
      } else if depth == 0, byte == UInt8(ascii: ",") || byte == UInt8(ascii: "}") {
        members.append(member)
        member = []
        continue
      }
      member.append(byte)
    }
    members.sort { $0.lexicographicallyPrecedes($1) }
    return Array(line[...open]) + Array(members.joined(separator: [0x2c])) + [0x7d] + member
  }

  /// One member a line, or several with deeper indent.
  private static func pretty(_ bytes: [UInt8]) -> [[UInt8]] {
    var objects: [[[UInt8]]] = []
    for line in bytes.dropLast().split(separator: 0x0a, omittingEmptySubsequences: false) {
      if line.elementsEqual([0x7b]) {
        objects.append([])
      } else if line.starts(with: [0x09, 0x22]) {
        objects[objects.count - 1].append(Array(line))
      } else if !objects.isEmpty, !objects[objects.count - 1].isEmpty, !line.elementsEqual([0x7d]) {
        objects[objects.count - 1][objects[objects.count - 1].count - 1] += [0x0a] + line
      }
    }
    return objects.map { members in
      let clean = members.map { $0.last == 0x2c ? Array($0.dropLast()) : $0 }
      return Array(clean.sorted { $0.lexicographicallyPrecedes($1) }.joined(separator: [0x0a]))
    }
  }
}
