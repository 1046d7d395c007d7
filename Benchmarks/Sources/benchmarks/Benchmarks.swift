import Foundation

/// `scripts/run-benchmarks` starts this with an engine that is there for it alone.
@main
enum Benchmarks {
  static func main() {
    do {
      try run(try Setting(arguments: Array(CommandLine.arguments.dropFirst())))
    } catch {
      FileHandle.standardError.write(Data("benchmarks: \(error)\n".utf8))
      exit(1)
    }
  }

  private static func run(_ setting: Setting) throws {
    var report = Report(machine: try machine(setting))
    if setting.suites.contains("start") { report.startMilliseconds = try StartSuite(setting: setting).run() }
    if setting.suites.contains("apply") { report.apply = try ApplySuite(setting: setting).run() }
    if setting.suites.contains("update") { report.update = try UpdateSuite(setting: setting).run() }
    if setting.suites.contains("journal") { report.journal = try JournalSuite(setting: setting).run() }
    if setting.suites.contains("logs") { report.logs = try LogSuite(setting: setting).run() }
    if setting.suites.contains("latency") { report.latency = try LatencySuite(setting: setting).run() }
    if setting.suites.contains("keys") { report.keys = try KeySuite(setting: setting).run() }
    if setting.suites.contains("footprint") { report.footprint = try FootprintSuite(setting: setting).run() }

    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(report).write(to: URL(filePath: setting.results))
    print("\n\(report.markdown)\nData: \(setting.results)")
    if !setting.document.isEmpty { try insert(report.markdown, into: URL(filePath: setting.document)) }
  }

  private static func machine(_ setting: Setting) throws -> Report.Machine {
    let information = ProcessInfo.processInfo
    let processors = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
    let name = processors.split(separator: "\n").first { $0.hasPrefix("model name") }
    let load = try String(contentsOfFile: "/proc/loadavg", encoding: .utf8).split(separator: " ").first
    return Report.Machine(
      date: Date().formatted(.iso8601.year().month().day()),
      processor: name?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) }
        ?? "unknown",
      processors: information.activeProcessorCount,
      memoryMiB: Int(information.physicalMemory / 1_048_576),
      kernel: try Command.run(["uname", "-r"]).trimmingCharacters(in: .whitespacesAndNewlines),
      loadBefore: load.flatMap { Double($0) } ?? 0,
      agent: try Command.run([setting.binary, "--version"]).trimmingCharacters(in: .whitespacesAndNewlines))
  }

  /// Replaces what stands between the two comments of the document.
  private static func insert(_ markdown: String, into document: URL) throws {
    let text = try String(contentsOf: document, encoding: .utf8)
    guard let begin = text.range(of: "<!-- results -->\n"),
      let end = text.range(of: "<!-- end of results -->"),
      begin.upperBound <= end.lowerBound
    else { throw Failure("\(document.path): no part between <!-- results --> and <!-- end of results -->") }
    let new = text[..<begin.upperBound] + "\n" + markdown + "\n" + text[end.lowerBound...]
    try Data(new.utf8).write(to: document)
  }
}

/// What is being done, on standard error: standard output is for the tables.
func progress(_ text: String) {
  FileHandle.standardError.write(Data("\(text)\n".utf8))
}
