import CZlib

/// Undoes gzip (RFC 1952) and zlib (RFC 1950) compression up to a limit, so that a small body
/// cannot become a large one.
nonisolated enum Inflater {
  enum Format {
    case gzip
    /// With zlib's header as RFC 9110 section 8.4.1.2 says, or without, as some clients send it.
    case deflate
  }

  static func inflate(_ input: [UInt8], format: Format, limit: Int) throws(BodyError) -> [UInt8] {
    if input.isEmpty { return [] }
    let windowBits: Int32 =
      switch format {
      case .gzip: 15 + 16
      case .deflate: hasZlibHeader(input) ? 15 : -15
      }
    var stream = z_stream()
    guard czlib_inflate_init(&stream, windowBits) == Z_OK else { throw .corrupt("inflate failed") }
    defer { inflateEnd(&stream) }

    var output: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 32 * 1024)
    var status = Z_OK
    var consumed = 0
    while status != Z_STREAM_END {
      let produced = input.withUnsafeBufferPointer { bytes -> Int in
        piece.withUnsafeMutableBufferPointer { space -> Int in
          // zlib only reads through this pointer; its type says otherwise.
          stream.next_in = UnsafeMutablePointer(mutating: bytes.baseAddress.map { $0 + consumed })
          stream.avail_in = UInt32(bytes.count - consumed)
          stream.next_out = space.baseAddress
          stream.avail_out = UInt32(space.count)
          status = CZlib.inflate(&stream, Z_NO_FLUSH)
          consumed = bytes.count - Int(stream.avail_in)
          return space.count - Int(stream.avail_out)
        }
      }
      guard status == Z_OK || status == Z_STREAM_END else { throw .corrupt(reason(status)) }
      guard output.count + produced <= limit else { throw .tooLarge }
      output.append(contentsOf: piece[..<produced])
    }
    return output
  }

  private static func hasZlibHeader(_ input: [UInt8]) -> Bool {
    guard input.count >= 2 else { return false }
    return input[0] & 0x0F == 8 && (UInt16(input[0]) << 8 | UInt16(input[1])) % 31 == 0
  }

  private static func reason(_ status: Int32) -> String {
    switch status {
    // No progress with all of the input consumed: it ends too early.
    case Z_BUF_ERROR: "unexpected end of file"
    case Z_DATA_ERROR: "incorrect data check or header"
    default: "inflate failed (\(status))"
    }
  }
}
