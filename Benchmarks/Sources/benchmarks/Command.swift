import Foundation

/// A program of the machine, started and waited for, or kept running.
enum Command {
  /// Runs a program to its end.
  ///
  /// - Returns: its standard output.
  /// - Throws: `Failure` with its standard error when it does not end with status 0.
  @discardableResult
  static func run(_ arguments: [String]) throws -> String {
    let process = Process()
    let output = Pipe()
    let errors = FileManager.default.temporaryDirectory.appending(path: "benchmarks.\(UUID().uuidString)")
    guard FileManager.default.createFile(atPath: errors.path, contents: nil) else {
      throw Failure("\(errors.path): cannot be written")
    }
    defer { try? FileManager.default.removeItem(at: errors) }
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    // A file, because two pipes read one after the other can block each other.
    process.standardError = try FileHandle(forWritingTo: errors)
    try process.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let text = (try? String(contentsOf: errors, encoding: .utf8)) ?? ""
      throw Failure("\(arguments.joined(separator: " ")): status \(process.terminationStatus): \(text)")
    }
    return String(decoding: data, as: UTF8.self)
  }

  /// Starts a program whose output goes to a file.
  static func start(_ arguments: [String], log: URL) throws -> Process {
    guard FileManager.default.createFile(atPath: log.path, contents: nil) else {
      throw Failure("\(log.path): cannot be written")
    }
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let file = try FileHandle(forWritingTo: log)
    process.standardOutput = file
    process.standardError = file
    try process.run()
    return process
  }

  /// Ends a program that was started here: SIGTERM, after ten seconds SIGKILL.
  static func end(_ process: Process) {
    guard process.isRunning else { return }
    process.terminate()
    let deadline = ContinuousClock.now + .seconds(10)
    while process.isRunning, ContinuousClock.now < deadline { usleep(10_000) }
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }

  /// Processor time of user and system that a process has taken (proc(5), fields 14 and 15 of stat); zero of
  /// one that is gone.
  static func processorSeconds(_ process: pid_t) -> Double {
    let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
    let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
    guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return 0 }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// Confines a program to one processor when there are several, so that a server and its load do not
  /// share one; servers get the first, load the second.
  static func pinned(_ arguments: [String], to processor: Int) -> [String] {
    ProcessInfo.processInfo.activeProcessorCount > 1
      ? ["taskset", "-c", "\(processor)"] + arguments : arguments
  }
}
