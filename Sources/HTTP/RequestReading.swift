/// Reads requests as a connection does, without a socket: for fuzzing and for tests of divided input.
package nonisolated enum RequestReading {
  /// What was read, one line an item: request line, fields and body, or the fault that ended it.
  ///
  /// - Parameter division: lengths of the pieces in which the bytes arrive, used in turns; without one, all
  ///   bytes arrive at once.
  package static func account(of bytes: [UInt8], division: [Int] = []) -> String {
    let fields = RawMemory<HeadParser.Field>(capacity: Limits.headerCount)
    return bytes.withUnsafeBufferPointer { all in
      withExtendedLifetime(fields) {
        var reader = Reader(all, division, fields.base)
        return reader.run()
      }
    }
  }

  /// Bytes of which more and more have arrived.
  private struct Reader {
    private let all: UnsafeBufferPointer<UInt8>
    private let division: [Int]
    private var parser: HeadParser
    private var arrived = 0
    private var pieces = 0
    private var account = ""

    init(
      _ all: UnsafeBufferPointer<UInt8>, _ division: [Int], _ fields: UnsafeMutablePointer<HeadParser.Field>
    ) {
      (self.all, self.division) = (all, division.filter { $0 > 0 })
      parser = HeadParser(fields: fields)
    }

    /// False when there is nothing more.
    private mutating func receive() -> Bool {
      guard arrived < all.count else { return false }
      let amount = division.isEmpty ? all.count : division[pieces % division.count]
      arrived = min(all.count, arrived + amount)
      pieces += 1
      return true
    }

    mutating func run() -> String {
      var start = 0
      while start < all.count {
        parser.reset()
        var progress = parser.advance(all.slice(start..<arrived))
        while progress == .needsMore, receive() { progress = parser.advance(all.slice(start..<arrived)) }
        guard progress == .complete else {
          account += progress == .needsMore ? "unfinished head\n" : "\(progress)\n"
          return account
        }
        note(all.slice(start..<start + parser.length))
        guard let end = readBody(from: start + parser.length) else { return account }
        guard parser.keepsAlive else { return account + "close\n" }
        start = end
      }
      return account
    }

    private mutating func note(_ head: UnsafeBufferPointer<UInt8>) {
      func text(_ slice: HeadParser.Slice) -> String {
        String(decoding: head.slice(slice.range), as: UTF8.self)
      }
      account += "\(text(parser.methodToken)) \(text(parser.path)) \(parser.query.map(text) ?? "-")"
      account += " \(parser.framing) \(parser.isVersion10) \(parser.expectsContinue)\n"
      for index in 0..<parser.fieldCount {
        account += "\(text(parser.fields[index].name)): \(text(parser.fields[index].value))\n"
      }
    }

    /// The position behind the body; nil when it does not end.
    private mutating func readBody(from start: Int) -> Int? {
      switch parser.framing {
      case .none: return start
      case .length(let length):
        while arrived - start < length, receive() {}
        guard arrived - start >= length else {
          account += "unfinished body\n"
          return nil
        }
        account += "body \(length)\n"
        return start + length
      case .chunked:
        var decoder = ChunkedDecoder()
        var at = start
        var body: [UInt8] = []
        while true {
          var consumed = 0
          let progress = decoder.advance(all.slice(at..<arrived), consumed: &consumed) { body += $0 }
          at += consumed
          switch progress {
          case .complete:
            account += "chunks \(String(decoding: body, as: UTF8.self))\n"
            return at
          case .failed:
            account += "broken chunks\n"
            return nil
          case .needsMore:
            guard receive() else {
              account += "unfinished chunks\n"
              return nil
            }
          }
        }
      }
    }
  }

  /// The routes' table with its answer in a form that can be compared: position and parameters.
  package struct Table {
    private let table: RouteTable

    package init(_ patterns: [(method: Method, pattern: String)]) { table = RouteTable(patterns) }

    package func match(_ method: Method, _ path: [UInt8]) -> (route: Int?, parameters: [Range<Int>]) {
      var parameters: [Range<Int>] = []
      let match = path.withUnsafeBufferPointer { table.match(method, $0, parameters: &parameters) }
      guard case .route(let position) = match else { return (nil, []) }
      return (position, Array(parameters.prefix(table.parameterNames(position).count)))
    }
  }
}
