/// Takes a chunked body apart (RFC 9112, section 7.1), byte by byte, strictly.
nonisolated struct ChunkedDecoder {
  enum Outcome {
    /// All given bytes were used, and more are needed.
    case incomplete
    /// The body has ended; the number of bytes that were used.
    case complete(used: Int)
    case failure
  }

  private enum State {
    case size, extensions, sizeEnd
    case data, dataReturn, dataEnd
    case trailerStart, trailer, trailerEnd, lastEnd
  }

  private var state = State.size
  private var remaining = 0
  private var digits = 0
  private var lineBytes = 0
  private var trailerBytes = 0

  /// - Parameter sink: gets the pieces of the body.
  mutating func decode(
    _ bytes: UnsafePointer<UInt8>, _ count: Int, sink: (UnsafeBufferPointer<UInt8>) -> Void
  ) -> Outcome {
    var at = 0
    while at < count {
      let byte = bytes[at]
      switch state {
      case .size:
        lineBytes += 1
        if let digit = hexadecimal(byte) {
          digits += 1
          guard digits <= 8 else { return .failure }
          remaining = remaining << 4 | digit
        } else if digits == 0 {
          return .failure
        } else if byte == UInt8(ascii: ";") {
          state = .extensions
        } else if byte == carriageReturn {
          state = .sizeEnd
        } else {
          return .failure
        }
      case .extensions:
        lineBytes += 1
        guard lineBytes <= Limits.chunkLineBytes else { return .failure }
        if byte == carriageReturn {
          state = .sizeEnd
        } else if byte < 0x20 && byte != tab || byte == 0x7F {
          return .failure
        }
      case .sizeEnd:
        guard byte == lineFeed else { return .failure }
        state = remaining == 0 ? .trailerStart : .data
        lineBytes = 0
        digits = 0
      case .data:
        let piece = min(remaining, count - at)
        sink(UnsafeBufferPointer(start: bytes + at, count: piece))
        remaining -= piece
        at += piece
        if remaining == 0 { state = .dataReturn }
        continue
      case .dataReturn:
        guard byte == carriageReturn else { return .failure }
        state = .dataEnd
      case .dataEnd:
        guard byte == lineFeed else { return .failure }
        state = .size
      case .trailerStart:
        if byte == carriageReturn {
          state = .lastEnd
        } else {
          guard isTokenByte(byte) else { return .failure }
          state = .trailer
        }
      case .trailer:
        trailerBytes += 1
        guard trailerBytes <= Limits.trailerBytes else { return .failure }
        if byte == carriageReturn {
          state = .trailerEnd
        } else if byte < 0x20 && byte != tab || byte == 0x7F {
          return .failure
        }
      case .trailerEnd:
        guard byte == lineFeed else { return .failure }
        state = .trailerStart
      case .lastEnd:
        guard byte == lineFeed else { return .failure }
        return .complete(used: at + 1)
      }
      at += 1
    }
    return .incomplete
  }

  private func hexadecimal(_ byte: UInt8) -> Int? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(byte - UInt8(ascii: "a")) + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(byte - UInt8(ascii: "A")) + 10
    default: nil
    }
  }
}
