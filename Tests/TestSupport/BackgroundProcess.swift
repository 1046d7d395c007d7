import CSystemd
import EventLoop
import Glibc

/// A server that a test starts and stops: an engine, a registry, `openssl s_server`.
///
/// It is sent SIGTERM when the test's process ends in whatever way, so that a crash leaves
/// nothing behind.
public final class BackgroundProcess {
  public let processID: pid_t
  /// File with everything that the program wrote.
  public let outputPath: String
  private var isReaped = false

  /// - Parameters:
  ///   - command: program, with its absolute path, and arguments.
  ///   - output: file for standard output and standard error, appended to.
  public init(_ command: [String], output: String) throws(SystemError) {
    outputPath = output
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)

    // A test runner may ignore or block the signal that is to end the program.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    let words = ["/usr/bin/setpriv", "--pdeathsig", "TERM"] + command
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var process = pid_t()
    let code = posix_spawn(&process, words[0], &actions, &attributes, &arguments, csystemd_environment())
    guard code == 0 else { throw SystemError(code: code, call: "posix_spawn \(words[0])") }
    processID = process
  }

  public var isRunning: Bool {
    guard !isReaped else { return false }
    var status: Int32 = 0
    if waitpid(processID, &status, WNOHANG) == processID { isReaped = true }
    return !isReaped
  }

  /// Sends a signal and waits for the end; after `patience` it kills.
  public func stop(signal: Int32 = SIGTERM, patience: Duration = .seconds(20)) async {
    guard isRunning else { return }
    kill(processID, signal)
    let start = ContinuousClock.now
    while isRunning {
      if ContinuousClock.now - start > patience { kill(processID, SIGKILL) }
      try? await Task.sleep(for: .milliseconds(20))
    }
  }

  /// The last lines of the output, to be shown when something failed.
  public var output: String {
    guard let file = fopen(outputPath, "r") else { return "" }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 {
      bytes = Array((bytes + chunk[..<count]).suffix(4096))
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// A directory of its own under the system's temporary one.
public final class TemporaryDirectory {
  public let path: String

  public init() throws(SystemError) {
    var template = Array("/tmp/supervisor-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw .last("mkdtemp") }
    path = String(cString: made)
  }

  /// Removes it and all that is in it.
  public func remove() async {
    _ = try? await ChildProcess.run("/bin/rm", ["-rf", "--one-file-system", path], timeout: .seconds(60))
  }
}

/// Waits until `condition` holds; false when it still does not after `limit`.
public func eventually(
  within limit: Duration = .seconds(30), _ condition: @MainActor () async throws -> Bool
) async rethrows -> Bool {
  let start = ContinuousClock.now
  while true {
    if try await condition() { return true }
    guard ContinuousClock.now - start < limit else { return false }
    try? await Task.sleep(for: .milliseconds(20))
  }
}
