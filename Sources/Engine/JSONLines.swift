import HTTPClient
import JSON

/// Cuts a stream of bytes into lines, holding no more than one unfinished line.
nonisolated struct LineBuffer {
  struct LineTooLong: Error {}

  let limit: Int
  private var bytes: [UInt8] = []
  private var start = 0
  /// Bytes from `start` on that were searched for a line's end already.
  private var searched = 0

  init(limit: Int) { self.limit = limit }

  mutating func append(_ chunk: [UInt8]) {
    if start > 0 {
      bytes.removeSubrange(..<start)
      start = 0
    }
    bytes += chunk
  }

  /// The next line without its end; nil when there is none yet. Empty lines are left out.
  mutating func next() throws(LineTooLong) -> [UInt8]? {
    while true {
      guard let end = bytes[(start + searched)...].firstIndex(of: 10) else {
        searched = bytes.count - start
        guard searched <= limit else { throw LineTooLong() }
        return nil
      }
      let line = bytes[start..<end]
      start = end + 1
      searched = 0
      let trimmed = line.last == 13 ? line.dropLast() : line
      if !trimmed.isEmpty { return Array(trimmed) }
    }
  }

  /// What came after the last line end.
  mutating func rest() -> [UInt8]? {
    let rest = Array(bytes[start...])
    bytes = []
    start = 0
    searched = 0
    return rest.isEmpty ? nil : rest
  }
}

/// An answer of newline-delimited JSON, pulled line by line.
final class JSONLines {
  private let body: ResponseBody
  private let call: String
  private var buffer = LineBuffer(limit: EngineTimeouts.lineLimit)
  private var isAtEnd = false

  init(_ body: ResponseBody, call: String) {
    self.body = body
    self.call = call
  }

  /// The next value; nil at the end of a complete answer.
  func next() async throws(EngineError) -> JSON? {
    while true {
      let line: [UInt8]?
      do {
        line = try buffer.next()
      } catch {
        body.cancel()
        throw EngineError(
          kind: .malformedAnswer, call: call, message: "a line of more than \(buffer.limit) bytes")
      }
      if let line { return try parse(line) }
      if isAtEnd { return try buffer.rest().map(parse) }
      do {
        if let chunk = try await body.next() { buffer.append(chunk) } else { isAtEnd = true }
      } catch {
        throw EngineError(error, call: call)
      }
    }
  }

  private func parse(_ line: [UInt8]) throws(EngineError) -> JSON {
    do {
      return try JSON(parsing: line)
    } catch {
      throw EngineError(kind: .malformedAnswer, call: call, message: error.description)
    }
  }
}
