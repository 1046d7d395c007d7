import JSON

/// What handlers see of a request body (specification, http-api 2.4).
public nonisolated enum BodyParser {
  /// - Parameters:
  ///   - contentType: value of the header field; anything but JSON and forms yields `{}`.
  ///   - contentEncoding: `gzip`, `deflate`, `identity` or nil.
  ///   - bytes: the body as it came.
  ///   - isTooLarge: the body exceeded the limit, so that `bytes` is not all of it.
  public static func parse(
    contentType: String?, contentEncoding: String?, bytes: [UInt8], isTooLarge: Bool = false
  ) throws(BodyError) -> JSON {
    guard let contentType, let type = MediaType(contentType) else { return [:] }
    switch type.essence {
    case "application/json":
      let charset = type.charset ?? "utf-8"
      guard charset.hasPrefix("utf-"), let encoding = TextEncoding(charset) else {
        throw .unsupportedCharset(charset)
      }
      let text = try plain(bytes, contentEncoding, isTooLarge)
      return try json(encoding.utf8(text))
    case "application/x-www-form-urlencoded":
      let charset = type.charset ?? "utf-8"
      guard charset == "utf-8" else { throw .unsupportedCharset(charset) }
      return try FormParser.parse(try plain(bytes, contentEncoding, isTooLarge))
    default:
      return [:]
    }
  }

  private static func plain(
    _ bytes: [UInt8], _ encoding: String?, _ isTooLarge: Bool
  ) throws(BodyError) -> [UInt8] {
    let encoding = (encoding ?? "identity").lowercased()
    switch encoding {
    case "", "identity":
      guard !isTooLarge, bytes.count <= Limits.bodyBytes else { throw .tooLarge }
      return bytes
    case "gzip", "deflate":
      guard !isTooLarge else { throw .tooLarge }
      return try Inflater.inflate(
        bytes, format: encoding == "gzip" ? .gzip : .deflate, limit: Limits.bodyBytes)
    default:
      throw .unsupportedEncoding(encoding)
    }
  }

  private static func json(_ bytes: [UInt8]) throws(BodyError) -> JSON {
    if bytes.isEmpty { return [:] }
    let value: JSON
    do { value = try JSON(parsing: bytes) } catch { throw .notJSON(error.description) }
    switch value {
    case .object, .array: return value
    default: throw .notJSON("Unexpected token in JSON at position 0")
    }
  }
}

/// A media type with the parameter that matters here (RFC 9110 section 8.3.1).
private nonisolated struct MediaType {
  /// Type and subtype in lower case.
  let essence: String
  /// In lower case.
  let charset: String?

  /// nil when the value is not a media type.
  init?(_ value: String) {
    let parts = value.split(separator: ";", omittingEmptySubsequences: false)
    let essence = Self.trimmed(parts[0]).lowercased()
    let names = essence.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard names.count == 2, names.allSatisfy({ !$0.isEmpty && $0.allSatisfy(\.isTokenCharacter) }) else {
      return nil
    }
    self.essence = essence
    var charset: String?
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2 else { continue }
      guard Self.trimmed(pair[0]).lowercased() == "charset" else { continue }
      var text = Self.trimmed(pair[1])
      if text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") { text = text.dropFirst().dropLast() }
      charset = text.lowercased()
    }
    self.charset = charset
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while text.utf8.first?.isBlank == true { text = text.dropFirst() }
    while text.utf8.last?.isBlank == true { text = text.dropLast() }
    return text
  }
}

/// The encodings of JSON that exist in the field: nearly always UTF-8, rarely UTF-16.
private nonisolated enum TextEncoding {
  case utf8, utf16, utf16LittleEndian, utf16BigEndian

  init?(_ charset: String) {
    switch charset {
    case "utf-8": self = .utf8
    case "utf-16": self = .utf16
    case "utf-16le": self = .utf16LittleEndian
    case "utf-16be": self = .utf16BigEndian
    default: return nil
    }
  }

  func utf8(_ bytes: [UInt8]) -> [UInt8] {
    if self == .utf8 { return bytes }
    var isBigEndian = self == .utf16BigEndian
    var start = 0
    if bytes.count >= 2, bytes[0] == 0xFE, bytes[1] == 0xFF {
      (isBigEndian, start) = (true, 2)
    } else if bytes.count >= 2, bytes[0] == 0xFF, bytes[1] == 0xFE {
      (isBigEndian, start) = (false, 2)
    }
    let units = stride(from: start, to: bytes.count - 1, by: 2).map { at in
      let (first, second) = (UInt16(bytes[at]), UInt16(bytes[at + 1]))
      return isBigEndian ? first << 8 | second : second << 8 | first
    }
    return Array(String(decoding: units, as: UTF16.self).utf8)
  }
}
