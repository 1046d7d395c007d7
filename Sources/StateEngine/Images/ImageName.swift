/// Parts of a normalised image name: `repository:tag` or `repository@digest` (state-engine 6.1).
///
/// Works on bytes: a plan looks at every name several times.
nonisolated struct ImageName: Hashable {
  let repository: Substring
  /// nil in a name with a digest.
  let tag: Substring?
  let digest: Substring?

  init(_ name: String) {
    let bytes = name.utf8
    if let at = bytes.lastIndex(of: UInt8(ascii: "@")) {
      repository = ImageName.withoutTag(name[..<at]).repository
      tag = nil
      digest = name[bytes.index(after: at)...]
    } else {
      let parts = ImageName.withoutTag(name[...])
      repository = parts.repository
      tag = parts.tag ?? "latest"
      digest = nil
    }
  }

  /// A colon before a slash belongs to the registry's port.
  private static func withoutTag(_ text: Substring) -> (repository: Substring, tag: Substring?) {
    let bytes = text.utf8
    guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")), !bytes[colon...].contains(UInt8(ascii: "/"))
    else { return (text, nil) }
    return (text[..<colon], text[bytes.index(after: colon)...])
  }

  /// The same name, or the same digest.
  static func isSame(_ a: String, _ b: String) -> Bool { a == b || key(a) == key(b) }

  /// What is equal exactly for two names of the same image.
  static func key(_ name: String) -> String {
    let bytes = name.utf8
    guard let at = bytes.lastIndex(of: UInt8(ascii: "@")) else { return name }
    return String(name[bytes.index(after: at)...])
  }
}
