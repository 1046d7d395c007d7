import CZlib

/// Inflates compressed bodies, and stops at a limit: a small body must not become a large one.
nonisolated enum Inflater {
  enum Format {
    /// RFC 1952
    case gzip
    /// RFC 1950, or RFC 1951 without its header, which some clients send.
    case deflate
  }

  private static let maximumWindowBits: Int32 = 15
  private static let gzipFlag: Int32 = 16

  /// - Throws: `request entity too large` beyond `limit`, else what is wrong with the data.
  static func inflate(_ bytes: [UInt8], _ format: Format, limit: Int) throws(BodyError) -> [UInt8] {
    switch format {
    case .gzip: return try inflate(bytes, windowBits: maximumWindowBits + gzipFlag, limit: limit)
    case .deflate:
      // A zlib header is a multiple of 31 (RFC 1950, section 2.2).
      let hasHeader =
        bytes.count >= 2 && bytes[0] & 0x0F == 8 && (Int(bytes[0]) << 8 | Int(bytes[1])) % 31 == 0
      return try inflate(
        bytes, windowBits: hasHeader ? maximumWindowBits : -maximumWindowBits, limit: limit)
    }
  }

  private static func inflate(_ bytes: [UInt8], windowBits: Int32, limit: Int) throws(BodyError) -> [UInt8] {
    var stream = z_stream()
    guard czlib_inflate_init(&stream, windowBits) == Z_OK else { throw BodyError("not enough memory") }
    defer { inflateEnd(&stream) }
    var input = bytes
    var output: [UInt8] = []
    var status = Z_OK
    input.withUnsafeMutableBufferPointer { source in
      stream.next_in = source.baseAddress
      stream.avail_in = UInt32(source.count)
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16384) { piece in
        repeat {
          stream.next_out = piece.baseAddress
          stream.avail_out = UInt32(piece.count)
          status = CZlib.inflate(&stream, Z_NO_FLUSH)
          output += piece.prefix(piece.count - Int(stream.avail_out))
        } while status == Z_OK && output.count <= limit
      }
    }
    guard output.count <= limit else { throw BodyError("request entity too large") }
    switch status {
    case Z_STREAM_END: return output
    case Z_BUF_ERROR: throw BodyError("unexpected end of file")
    default: throw BodyError("incorrect header check")
    }
  }
}
