/// `[registry/]repository[:tag][@digest]` (target-state 4.6, state-engine 6.1).
public nonisolated struct ImageReference: Sendable, Hashable {
  /// The part before the first `/` when it is `localhost` or contains `.` or `:`.
  public let registry: String?
  /// Without the registry.
  public let repository: String
  /// nil only when there is a digest; `latest` when neither was given.
  public let tag: String?
  /// `<algorithm>:<hex>`
  public let digest: String?

  public init(parsing text: String) throws(ModelError) {
    let isPlain = text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    guard !text.isEmpty, isPlain || !text.contains(where: \.isWhitespace) else {
      throw ModelError("Could not parse the image: \(text)")
    }
    let malformed = ModelError(
      "Invalid image name, expected [domain.tld/]repo/image[:tag][@digest] format, got: \(text)")
    var rest = Substring(text)
    var digest: String?
    if let at = rest.firstIndex(of: "@") {
      let value = rest[at...].dropFirst()
      guard Self.isDigest(value) else { throw malformed }
      digest = String(value)
      rest = rest[..<at]
    }
    var registry: String?
    if let slash = rest.firstIndex(of: "/") {
      let first = rest[..<slash]
      if first == "localhost" || first.contains(".") || first.contains(":") {
        registry = String(first)
        rest = rest[slash...].dropFirst()
      }
    }
    var tag: String?
    if let colon = rest.lastIndex(of: ":") {
      tag = String(rest[colon...].dropFirst())
      rest = rest[..<colon]
    }
    guard !rest.isEmpty, !rest.hasPrefix("/"), !rest.hasSuffix("/"), !rest.contains(":"), tag != "",
      tag?.contains("/") != true
    else { throw malformed }
    self.registry = registry
    repository = String(rest)
    self.tag = tag ?? (digest == nil ? "latest" : nil)
    self.digest = digest
  }

  /// Registry and repository.
  public var name: String { registry.map { $0 + "/" + repository } ?? repository }

  /// The form that is stored and compared: the tag is dropped when there is a digest.
  public var normalized: String {
    digest.map { "\(name)@\($0)" } ?? "\(name):\(tag ?? "latest")"
  }

  /// Equal names, or equal digests.
  public func isSameImage(as other: ImageReference) -> Bool {
    if let digest, digest == other.digest { return true }
    return normalized == other.normalized
  }

  private static func isDigest(_ text: Substring) -> Bool {
    guard let colon = text.firstIndex(of: ":") else { return false }
    let hex = text[colon...].dropFirst()
    let algorithm = text[..<colon]
    return !algorithm.isEmpty && algorithm.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } && hex.utf8.count >= 32
      && hex.allSatisfy { $0.isASCII && $0.isHexDigit }
  }
}
