/// Secrets and identities from the kernel's random source (the system generator reads getrandom(2)).
public nonisolated enum RandomKey {
  /// `byteCount` random bytes as lower-case hexadecimal text of twice that length.
  public static func hexadecimal(byteCount: Int) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var generator = SystemRandomNumberGenerator()
    var text: [UInt8] = []
    text.reserveCapacity(byteCount * 2)
    for _ in 0..<byteCount {
      let byte = UInt8.random(in: 0...255, using: &generator)
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Whether `candidate` is `secret`, in a time that depends on the candidate's length alone.
  static func matches(_ candidate: [UInt8], _ secret: [UInt8]) -> Bool {
    guard !secret.isEmpty else { return false }
    var difference = candidate.count ^ secret.count
    for (position, byte) in candidate.enumerated() {
      difference |= Int(byte ^ secret[position % secret.count])
    }
    return difference == 0
  }
}
