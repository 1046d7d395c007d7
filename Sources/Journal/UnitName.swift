import CSystemd

/// Names of systemd's units, as people write them (systemd.unit(5), `journalctl --unit`).
public nonisolated enum UnitName {
  /// Fields that hold names of system units.
  static let fields = [
    "_SYSTEMD_UNIT", "COREDUMP_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "_SYSTEMD_SLICE",
  ]
  private static let types: Set<String> = [
    "service", "mount", "swap", "socket", "target", "device", "automount", "timer", "path", "slice", "scope",
  ]
  private static let longestName = 255

  /// A name, or a pattern for names.
  public enum Request: Hashable, Sendable {
    case name(String)
    case glob(String)
  }

  /// Completes and escapes what was written: `nginx` is `nginx.service`, `/home` is `home.mount`.
  ///
  /// - Returns: nil for an empty name.
  public static func parse(_ text: String) -> Request? {
    guard !text.isEmpty else { return nil }
    if isValid(text) { return .name(text) }
    let isGlob = text.utf8.contains { isGlobByte($0) }
    if isGlob, text.utf8.allSatisfy({ isNameByte($0) || isGlobPart($0) }) { return .glob(text) }
    if text.hasPrefix("/") {
      let type = ["/dev/", "/sys/"].contains { text.hasPrefix($0) } ? "device" : "mount"
      if let path = escaped(path: text) { return .name("\(path).\(type)") }
    }
    var name = ""
    for byte in text.utf8 {
      if byte == UInt8(ascii: "/") {
        name += "-"
      } else if isNameByte(byte) || isGlobPart(byte) {
        name.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        name += escape(byte)
      }
    }
    if name.utf8.contains(where: { isGlobByte($0) }) { return .glob(name) }
    return .name(isValid(name) ? name : name + ".service")
  }

  /// - Parameter name: bytes of any kind.
  static func matches(_ glob: String, _ name: [UInt8]) -> Bool {
    let text = name.map { CChar(bitPattern: $0) } + [0]
    return csystemd_glob_matches(glob, text) != 0
  }

  private static func type(of name: String) -> String? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    let type = String(name[name.index(after: dot)...])
    return types.contains(type) ? type : nil
  }

  private static func isValid(_ name: String) -> Bool {
    guard name.utf8.count <= longestName, type(of: name) != nil, let dot = name.lastIndex(of: ".") else {
      return false
    }
    let prefix = name[..<dot].utf8
    return !prefix.isEmpty && prefix.first != UInt8(ascii: "@") && prefix.allSatisfy { isNameByte($0) }
  }

  /// `/a/b-c` becomes `a-b\x2dc`; nil for a path with `..` or with nothing that can be escaped.
  private static func escaped(path: String) -> String? {
    let parts = path.split(separator: "/").filter { $0 != "." }
    guard !parts.contains("..") else { return nil }
    guard !parts.isEmpty else { return "-" }
    return parts.map { part in
      var text = ""
      for (index, byte) in part.utf8.enumerated() {
        let isPlain =
          isNameByte(byte) && byte != UInt8(ascii: "-") && byte != UInt8(ascii: "\\")
          && byte != UInt8(ascii: "@")
        if isPlain, !(index == 0 && byte == UInt8(ascii: ".") && part == parts[0]) {
          text.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
          text += escape(byte)
        }
      }
      return text
    }.joined(separator: "-")
  }

  private static func escape(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return "\\x" + (digits.utf8.count < 2 ? "0" : "") + digits
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "-"), UInt8(ascii: "_"),
      UInt8(ascii: "."), UInt8(ascii: "\\"), UInt8(ascii: "@"):
      true
    default: false
    }
  }

  /// What makes a glob of a text.
  private static func isGlobByte(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "*") || byte == UInt8(ascii: "?") || byte == UInt8(ascii: "[")
  }

  private static func isGlobPart(_ byte: UInt8) -> Bool {
    isGlobByte(byte) || byte == UInt8(ascii: "]") || byte == UInt8(ascii: "!")
  }
}
