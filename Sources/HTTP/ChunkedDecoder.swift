/// Takes the chunked coding off a request body (RFC 9112 section 7.1).
///
/// Pure and resumable like the head's parser. Extensions and trailers are checked, bounded and
/// dropped.
nonisolated struct ChunkedDecoder {
  enum Progress: Equatable {
    case needsMore
    case complete
    case failed
  }

  private enum State {
    case size, sizeLineFeed, extensionText, data, dataReturn, dataLineFeed
    case trailerStart, trailerName, trailerValue, trailerLineFeed, lastLineFeed
  }

  private var state = State.size
  private var remaining = 0
  private var digits = 0
  private var extensionBytes = 0
  private var trailerBytes = 0

  /// - Parameters:
  ///   - bytes: what has arrived since the last call.
  ///   - consumed: gets the number of bytes that belong to this body.
  ///   - sink: gets the data, in pieces of `bytes`.
  mutating func advance(
    _ bytes: UnsafeBufferPointer<UInt8>, consumed: inout Int, sink: (UnsafeBufferPointer<UInt8>) -> Void
  ) -> Progress {
    var at = 0
    defer { consumed = at }
    while at < bytes.count {
      let byte = bytes[at]
      if state == .data {
        let count = min(remaining, bytes.count - at)
        sink(bytes.slice(at..<at + count))
        at += count
        remaining -= count
        if remaining == 0 { state = .dataReturn }
        continue
      }
      at += 1
      switch state {
      case .data: break
      case .size:
        if let digit = byte.hexadecimalValue {
          // Fifteen digits always fit, and leading zeros do not go on for ever.
          guard digits < 15 else { return .failed }
          digits += 1
          remaining = remaining << 4 | Int(digit)
        } else if digits > 0, byte == UInt8(ascii: ";") {
          state = .extensionText
        } else if digits > 0, byte == 0x0D {
          state = .sizeLineFeed
        } else {
          return .failed
        }
      case .extensionText:
        if byte == 0x0D {
          state = .sizeLineFeed
        } else {
          extensionBytes += 1
          guard byte >= 0x20 && byte != 0x7F || byte == 0x09, extensionBytes <= Limits.chunkExtensionBytes
          else { return .failed }
        }
      case .sizeLineFeed:
        guard byte == 0x0A else { return .failed }
        state = remaining == 0 ? .trailerStart : .data
        digits = 0
      case .dataReturn:
        guard byte == 0x0D else { return .failed }
        state = .dataLineFeed
      case .dataLineFeed:
        guard byte == 0x0A else { return .failed }
        state = .size
      case .trailerStart:
        if byte == 0x0D {
          state = .lastLineFeed
        } else {
          guard byte.isTokenCharacter else { return .failed }
          state = .trailerName
        }
      case .trailerName:
        if byte == UInt8(ascii: ":") {
          state = .trailerValue
        } else {
          guard byte.isTokenCharacter else { return .failed }
        }
      case .trailerValue:
        if byte == 0x0D {
          state = .trailerLineFeed
        } else {
          guard byte >= 0x20 && byte != 0x7F || byte == 0x09 else { return .failed }
        }
      case .trailerLineFeed:
        guard byte == 0x0A else { return .failed }
        state = .trailerStart
      case .lastLineFeed:
        return byte == 0x0A ? .complete : .failed
      }
      switch state {
      case .trailerName, .trailerValue, .trailerLineFeed:
        trailerBytes += 1
        guard trailerBytes <= Limits.trailerBytes else { return .failed }
      default: break
      }
    }
    return .needsMore
  }
}
