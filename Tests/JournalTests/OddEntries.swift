/// Entries in journal export format with everything that a formatter can stumble over.
nonisolated struct OddEntries {
  private var state: UInt64
  private var bytes: [UInt8] = []

  init(seed: UInt64) { state = seed }

  static let firstTime: UInt64 = 1_690_000_000_000_000

  /// xorshift64*
  mutating func next(_ below: Int) -> Int {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return Int((state &* 0x2545_f491_4f6c_dd1d) >> 33) % below
  }

  private mutating func happens(_ percent: Int) -> Bool { next(100) < percent }

  private mutating func value() -> [UInt8] {
    switch next(18) {
    case 0: return []
    case 1: return (0..<(1 + next(40))).map { _ in UInt8(next(256)) }
    case 2: return Array("grün ☃ 日本 😀 \u{a0}\u{200b}".utf8)
    case 3: return Array("\u{1b}[31mred\u{1b}[0m\ttab \u{1b}]8;;x\u{07}link \u{1b}[2K \u{1b}[1;\u{1b}".utf8)
    case 4: return Array("line one\nline two\n\nline four".utf8) + Array(repeating: 0x0a, count: next(3))
    case 5: return Array("a\"quote\\back/slash \u{7f}".utf8.prefix(5 + next(17)))
    case 6: return Array("zero\0inside\nand\0more".utf8)
    case 7:
      let sizes = [290, 299, 300, 301, 4000, 4085, 4087, 4088, 4090, 4096, 5000, 20_000]
      return Array(repeating: UInt8(ascii: "x"), count: sizes[next(sizes.count)])
    case 8: return Array(repeating: 0xff, count: [3, 600, 1100, 5000][next(4)])
    case 9: return [0xef, 0xb7, 0x90, 0xef, 0xbf, 0xbe]
    case 10: return [0xc0, 0x80, 0xed, 0xa0, 0x80]
    case 11: return Array("\u{85}control".utf8)
    case 12: return [happens(50) ? 0x0a : 0x09]
    case 13: return [0xf0, 0x9f, 0x98]
    default: return Array("message \(next(1000)) of words and numbers".utf8)
    }
  }

  private mutating func add(_ name: String, _ value: [UInt8]) {
    bytes += Array(name.utf8)
    if value.contains(where: { $0 < 32 && $0 != 9 }) || happens(2) {
      bytes.append(0x0a)
      withUnsafeBytes(of: UInt64(value.count).littleEndian) { bytes += Array($0) }
    } else {
      bytes.append(UInt8(ascii: "="))
    }
    bytes += value
    bytes.append(0x0a)
  }

  private mutating func add(_ name: String, _ text: String) { add(name, Array(text.utf8)) }

  mutating func export(entries: Int) -> [UInt8] {
    bytes = []
    var time = Self.firstTime
    var monotonic: UInt64 = 5_000_000
    for index in 0..<entries {
      time += [1, 1000, 100_000, 3_000_000, 3_600_000_000][next(5)]
      monotonic += UInt64(1 + next(4_000_000))
      let boot = String(repeating: "\(1 + index * 4 / entries)", count: 32)
      bytes += Array(
        "__REALTIME_TIMESTAMP=\(time)\n__MONOTONIC_TIMESTAMP=\(monotonic)\n_BOOT_ID=\(boot)\n".utf8)
      addUsual(time, monotonic)
      for number in 0..<next(8) {
        for _ in 0..<(happens(90) ? 1 : 2 + next(3)) { add("EXTRA_\(number)", value()) }
      }
      if happens(2) { for number in 0..<150 { add("MANY_\(number)", "v\(number)") } }
      bytes.append(0x0a)
    }
    return bytes
  }

  private mutating func addUsual(_ time: UInt64, _ monotonic: UInt64) {
    if happens(95) { for _ in 0..<(happens(95) ? 1 : 2) { add("MESSAGE", value()) } }
    if happens(80) { add("SYSLOG_IDENTIFIER", happens(20) ? value() : Array("ident\(next(4))".utf8)) }
    if happens(60) { add("_COMM", happens(10) ? value() : Array("comm".utf8)) }
    if happens(60) { add("_PID", happens(10) ? value() : Array("\(next(9999))".utf8)) }
    if happens(30) { add("SYSLOG_PID", "\(next(9999))") }
    if happens(90) { add("_HOSTNAME", happens(10) ? value() : Array("host".utf8)) }
    let units = ["a.service", "b.service", "init.scope", "x-y.slice"]
    if happens(70) { add("_SYSTEMD_UNIT", happens(10) ? value() : Array(units[next(4)].utf8)) }
    if happens(20) { add("_SYSTEMD_USER_UNIT", happens(20) ? value() : Array("u.service".utf8)) }
    if happens(70) { add("PRIORITY", "\(next(8))") }
    if happens(3) { add("PRIORITY", "\(next(8))") }
    let times = [
      "\(time - 5)", "\(time - 700)", "abc", "0", "0x5ffffffffffff", "+17", "99999999999999999999999", " 5",
      "-5", "017",
    ]
    if happens(50) { add("_SOURCE_REALTIME_TIMESTAMP", times[next(times.count)]) }
    if happens(30) { add("_SOURCE_MONOTONIC_TIMESTAMP", ["\(monotonic)", "-1", ""][next(3)]) }
    if happens(10) { add("_TRANSPORT", ["audit", "kernel", "journal"][next(3)]) }
    if happens(5) {
      add("UNIT", "a.service")
      add("_UID", "0")
    }
    if happens(3) { add("CONFIG_FILE", "/etc/x.conf") }
    if happens(3) { add("CONTAINER_NAME", "main_\(next(3))_2_abc") }
  }
}
