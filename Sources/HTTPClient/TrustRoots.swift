import CCurl
import Glibc

/// The certificates that a TLS peer is checked against: the system's, and extra ones.
///
/// The system's are found by a hashed directory where there is one, because a bundle is
/// parsed whole, which costs about two megabytes, and a directory is read certificate by
/// certificate as they are needed. Extra ones are given to libcurl as one blob, of which it trusts
/// none when it cannot read one. So each block is shown to libcurl's own TLS library before: a bad
/// one must never disable the others (specification, cloud 0.3).
nonisolated struct TrustRoots {
  /// PEM of the extra ones; empty when there are none. Where the system has no directory, its bundle
  /// follows, as libcurl reads no file beside a blob.
  private(set) var blob: [UInt8] = []
  /// `/etc/ssl/certs` when it holds links named by hash; nil means libcurl's own default.
  let systemDirectory: String?
  private let systemBundle: String?
  /// As they were given last.
  private var texts: [String] = []

  init() {
    self.init(
      systemDirectory: Self.isHashed("/etc/ssl/certs") ? "/etc/ssl/certs" : nil,
      systemBundle: ccurl_default_bundle().map { String(cString: $0) })
  }

  /// - Parameters:
  ///   - systemDirectory: with links named by hash.
  ///   - systemBundle: read where there is no such directory.
  init(systemDirectory: String?, systemBundle: String?) {
    self.systemDirectory = systemDirectory
    self.systemBundle = systemBundle
  }

  /// - Returns: what each text holds; nil when they are those of before.
  mutating func setExtra(_ texts: [String]) -> [PEMCertificates]? {
    guard texts != self.texts else { return nil }
    self.texts = texts
    let contents = texts.map(PEMCertificates.init)
    blob = contents.flatMap(\.text)
    if !blob.isEmpty, systemDirectory == nil, let systemBundle {
      let bundle = String(decoding: Self.content(of: systemBundle), as: UTF8.self)
      blob.append(contentsOf: PEMCertificates(bundle).text)
    }
    return contents
  }

  private static func content(of path: String) -> [UInt8] {
    guard let file = fopen(path, "re") else { return [] }
    defer { fclose(file) }
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      if count == 0 { return content }
      content.append(contentsOf: buffer[..<count])
    }
  }

  private static func isHashed(_ directory: String) -> Bool {
    guard let entries = opendir(directory) else { return false }
    defer { closedir(entries) }
    while let entry = readdir(entries) {
      let isHash = withUnsafeBytes(of: &entry.pointee.d_name) { name in
        name[8] == UInt8(ascii: ".") && name[9] == UInt8(ascii: "0") && name[10] == 0
      }
      if isHash { return true }
    }
    return false
  }
}
