import Foundation

/// Journal files of a busy device: 27 fields an entry, messages of 4 to 17 words, five services.
struct JournalFile {
  static let entries = 200_000
  private static let words =
    ("the engine started container network created volume removed image pulled layer digest release service "
    + "main update lock taken state applied warning error timeout retry connection refused")
    .split(separator: " ").map(String.init)
  private static let services = ["engine", "main", "supervisor", "sshd", "kernel"]

  let directory: URL
  /// Always the same numbers: runs can be compared.
  private var seed: UInt64 = 7

  /// Writes the files below `directory` with systemd-journal-remote.
  static func make(in directory: URL) throws -> URL {
    let file = directory.appending(path: "journal-benchmark.export")
    let journal = directory.appending(path: "journal-benchmark")
    try FileManager.default.createDirectory(at: journal, withIntermediateDirectories: true)
    var generator = JournalFile(directory: journal)
    guard FileManager.default.createFile(atPath: file.path, contents: nil) else {
      throw Failure("\(file.path): cannot be written")
    }
    let handle = try FileHandle(forWritingTo: file)
    var realtime = 1_700_000_000_000_000
    var monotonic = 1_000_000
    var text = ""
    for number in 0..<entries {
      realtime += generator.number(1..<200_000)
      monotonic += generator.number(1..<200_000)
      generator.append(number, realtime, monotonic, to: &text)
      if text.utf8.count > 1 << 20 || number == entries - 1 {
        try handle.write(contentsOf: Data(text.utf8))
        text = ""
      }
    }
    try handle.close()
    try Command.run(
      ["/lib/systemd/systemd-journal-remote", "-o", journal.appending(path: "b.journal").path, file.path])
    try FileManager.default.removeItem(at: file)
    return journal
  }

  private init(directory: URL) { self.directory = directory }

  private mutating func number(_ range: Range<Int>) -> Int {
    seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return range.lowerBound + Int(seed >> 33) % range.count
  }

  private mutating func append(_ number: Int, _ realtime: Int, _ monotonic: Int, to text: inout String) {
    let service = Self.services[number % Self.services.count]
    let message = (0..<self.number(4..<18)).map { _ in Self.words[self.number(0..<Self.words.count)] }
    let process = self.number(0..<5) == 0 ? self.number(100..<30_000) : 1200 + number % 7
    func digits(_ value: Int, _ length: Int) -> String {
      String(repeating: "0", count: max(0, length - "\(value)".count)) + "\(value)"
    }
    text += """
      __REALTIME_TIMESTAMP=\(realtime)
      __MONOTONIC_TIMESTAMP=\(monotonic)
      _BOOT_ID=0123456789abcdef0123456789abcdef
      MESSAGE=\(message.joined(separator: " ")) \(number)
      PRIORITY=\(self.number(3..<7))
      SYSLOG_IDENTIFIER=\(service)
      SYSLOG_FACILITY=3
      _PID=\(process)
      _UID=0
      _GID=0
      _COMM=\(service)
      _EXE=/usr/bin/\(service)
      _CMDLINE=/usr/bin/\(service) --some-option --log-driver=journald -s overlay2
      _CAP_EFFECTIVE=1ffffffffff
      _SYSTEMD_CGROUP=/system.slice/\(service).service
      _SYSTEMD_UNIT=\(service).service
      _SYSTEMD_SLICE=system.slice
      _SYSTEMD_INVOCATION_ID=\(digits(number / 40_000, 32))
      _MACHINE_ID=fedcba9876543210fedcba9876543210
      _HOSTNAME=device
      _TRANSPORT=journal
      _SOURCE_REALTIME_TIMESTAMP=\(realtime - self.number(10..<90))
      CONTAINER_ID=abcdef\(digits(number % 5, 6))
      CONTAINER_ID_FULL=abcdef\(digits(number % 5, 58))
      CONTAINER_NAME=\(service)_1_1
      CONTAINER_TAG=abcdef
      IMAGE_NAME=registry2.balena-cloud.com/v2/abcdef


      """
  }
}
