import CCurl
import Glibc

/// The certificates that a TLS peer is checked against: the system's, and extra ones.
///
/// The system's are found by a hashed directory where there is one, because a bundle is
/// parsed whole, which costs about two megabytes, and a directory is read certificate by
/// certificate as they are needed. Extra ones are given to libcurl as one blob that has been
/// cleaned of everything that cannot be a certificate, and of the rest of those that cannot be
/// read once that stands in the way: a bad block must never disable the others (specification,
/// cloud 0.3).
nonisolated struct TrustRoots {
  /// PEM of the extra ones; empty when there are none. Where the system has no directory, its bundle
  /// follows, as libcurl reads no file beside a blob.
  private(set) var blob: [UInt8] = []
  /// `/etc/ssl/certs` when it holds links named by hash; nil means libcurl's own default.
  let systemDirectory: String?
  private let systemBundle: String?
  private var certificates: [String] = []
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

  mutating func setExtra(_ texts: [String]) -> Int {
    // What was left out stays so.
    guard texts != self.texts else { return certificates.count }
    self.texts = texts
    use(texts.flatMap(Self.certificates))
    return certificates.count
  }

  /// Leaves out what the TLS library cannot read; all of them when it has no fault with any alone.
  ///
  /// - Returns: how many.
  mutating func removeUnreadable() -> Int {
    let former = certificates.count
    let readable = certificates.filter { text in
      text.utf8CString.withUnsafeBytes {
        ccurl_try_certificates($0.baseAddress, $0.count - 1) != CURLE_SSL_CACERT_BADFILE
      }
    }
    use(readable.count == former ? [] : readable)
    return former - certificates.count
  }

  private mutating func use(_ certificates: [String]) {
    self.certificates = certificates
    blob = Array(certificates.joined().utf8)
    if !blob.isEmpty, systemDirectory == nil, let systemBundle {
      blob.append(contentsOf: Self.content(of: systemBundle))
    }
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

  /// The well-formed certificates of a PEM text (RFC 7468), each with its markers.
  static func certificates(in text: String) -> [String] {
    let begin = Array("-----BEGIN CERTIFICATE-----".utf8)
    let end = Array("-----END CERTIFICATE-----".utf8)
    var letters: [UInt8]?
    var found: [String] = []
    for line in text.utf8.split(whereSeparator: { $0 == 10 || $0 == 13 }) {
      let line = line.filter { $0 != 0x20 && $0 != 0x09 || line.first == UInt8(ascii: "-") }
      if line.elementsEqual(begin) {
        // A block that was left open must not swallow the one after it.
        letters = []
      } else if line.elementsEqual(end) {
        if let letters, isWholeSequence(letters) { found.append(block(letters)) }
        letters = nil
      } else {
        letters?.append(contentsOf: line)
      }
    }
    return found
  }

  private static func block(_ letters: [UInt8]) -> String {
    var text = "-----BEGIN CERTIFICATE-----\n"
    for at in stride(from: 0, to: letters.count, by: 64) {
      text += String(decoding: letters[at..<min(at + 64, letters.count)], as: UTF8.self) + "\n"
    }
    return text + "-----END CERTIFICATE-----\n"
  }

  /// Whether the base64 text is one DER SEQUENCE of exactly the length that it claims (X.690 8.1.3).
  private static func isWholeSequence(_ letters: [UInt8]) -> Bool {
    guard letters.count % 4 == 0, letters.count >= 8, let bytes = Base64.decode(letters) else { return false }
    guard bytes.count >= 2, bytes[0] == 0x30 else { return false }
    if bytes[1] < 0x80 { return bytes.count == 2 + Int(bytes[1]) }
    let lengthBytes = Int(bytes[1] & 0x7F)
    guard (1...3).contains(lengthBytes), bytes.count > 2 + lengthBytes else { return false }
    let length = bytes[2..<2 + lengthBytes].reduce(0) { $0 << 8 | Int($1) }
    return bytes.count == 2 + lengthBytes + length
  }
}
