public import JSON

/// Why a body cannot be read; the message is what clients see (http-api 2.4).
public nonisolated struct BodyError: Error, Hashable, Sendable {
  public let message: String

  init(_ message: String) { self.message = message }
}

/// Bodies as handlers see them (http-api 2.4).
public nonisolated enum BodyParser {
  /// - Returns: JSON's object or array, a form's object, `{}` for every other content type.
  public static func parse(
    _ bytes: [UInt8], contentType: String?, contentEncoding: String?
  ) throws(BodyError) -> JSON {
    guard let contentType else { return [:] }
    let type = MediaType(contentType)
    guard type.name == "application/json" || type.name == "application/x-www-form-urlencoded" else {
      return [:]
    }
    if bytes.isEmpty { return [:] }
    let isJSON = type.name == "application/json"
    let charset = (type.charset ?? "utf-8").lowercased()
    guard isJSON ? charset.hasPrefix("utf-") : charset == "utf-8" else {
      throw BodyError("unsupported charset \"\(charset.uppercased())\"")
    }
    let plain = try inflated(bytes, contentEncoding)
    guard isJSON else { return try Form.parse(plain) }
    return try json(try unicode(plain, charset))
  }

  private static func json(_ bytes: [UInt8]) throws(BodyError) -> JSON {
    if bytes.isEmpty { return [:] }
    let value: JSON
    do throws(JSONSyntaxError) { value = try JSON(parsing: bytes) } catch {
      throw BodyError(error.description)
    }
    switch value {
    case .object, .array: return value
    default:
      let first = bytes.first { $0 > 0x20 }.map { String(UnicodeScalar($0)) } ?? ""
      throw BodyError("Unexpected token '\(first)', top level must be an object or an array")
    }
  }

  private static func inflated(_ bytes: [UInt8], _ encoding: String?) throws(BodyError) -> [UInt8] {
    switch (encoding ?? "identity").lowercased() {
    case "identity", "": return bytes
    case "gzip", "x-gzip": return try Inflater.inflate(bytes, .gzip, limit: Limits.bodyBytes)
    case "deflate": return try Inflater.inflate(bytes, .deflate, limit: Limits.bodyBytes)
    case let other: throw BodyError("unsupported content encoding \"\(other)\"")
    }
  }

  /// UTF-16 and UTF-32, which JSON may come in, as UTF-8.
  private static func unicode(_ bytes: [UInt8], _ charset: String) throws(BodyError) -> [UInt8] {
    switch charset {
    case "utf-8": return bytes
    case "utf-16", "utf-16le", "utf-16be":
      guard bytes.count % 2 == 0 else { throw BodyError("Unexpected end of JSON input") }
      let isBig = charset == "utf-16be" || charset == "utf-16" && bytes.starts(with: [0xFE, 0xFF])
      var units: [UInt16] = []
      for at in stride(from: 0, to: bytes.count, by: 2) {
        let pair = (UInt16(bytes[at]), UInt16(bytes[at + 1]))
        units.append(isBig ? pair.0 << 8 | pair.1 : pair.1 << 8 | pair.0)
      }
      if units.first == 0xFEFF { units.removeFirst() }
      return Array(String(decoding: units, as: UTF16.self).utf8)
    default: throw BodyError("unsupported charset \"\(charset.uppercased())\"")
    }
  }
}

/// `type/subtype; charset=…`
nonisolated struct MediaType {
  /// In lower case.
  let name: String
  private(set) var charset: String?

  init(_ text: String) {
    let parts = text.split(separator: ";", omittingEmptySubsequences: false)
    name = Self.trim(parts.first ?? "").lowercased()
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", maxSplits: 1)
      guard pair.count == 2, Self.trim(pair[0]).lowercased() == "charset" else { continue }
      charset = Self.trim(pair[1]).filter { $0 != "\"" }
      break
    }
  }

  private static func trim(_ text: Substring) -> String {
    var text = text
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}
