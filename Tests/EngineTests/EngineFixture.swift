import EventLoop
import Glibc
import HTTPClient
import TestSupport
import Testing

@testable import Engine

/// A private Docker Engine: everything it has lies in one temporary directory.
final class PrivateEngine {
  let directory: TemporaryDirectory
  let client: EngineClient
  private var process: BackgroundProcess?

  private static let program = "/usr/sbin/dockerd"

  init() throws {
    LoopDriver.start()
    directory = try TemporaryDirectory()
    client = EngineClient(.unix(directory.path + "/engine.sock"), client: HTTPClient())
  }

  /// Starts it, or starts it again with what it had.
  func start() async throws {
    let path = directory.path
    try #require(
      access(Self.program, X_OK) == 0,
      "tests of the engine need \(Self.program) (Debian: docker.io) or SUPERVISOR_TEST_ENGINE=unix:///socket")
    unlink("\(path)/pid")
    let process = try BackgroundProcess(
      [
        Self.program, "--data-root", "\(path)/data", "--exec-root", "\(path)/exec", "-H",
        "unix://\(path)/engine.sock", "--pidfile", "\(path)/pid", "--bridge=none", "--iptables=false",
        "--ip-masq=false",
      ], output: "\(path)/log")
    self.process = process
    let isUp = await eventually(within: .seconds(240)) {
      guard process.isRunning else { return false }
      do throws(EngineError) { try await self.client.ping() } catch { return false }
      return true
    }
    try #require(isUp, "dockerd did not start:\n\(process.output)")
  }

  func stop() async {
    await process?.stop()
    process = nil
  }

  func remove() async {
    await stop()
    await directory.remove()
  }
}

/// The engine that the tests of this target share, and a registry that it can reach.
final class EngineFixture {
  private(set) static var current: EngineFixture?

  let engine: EngineClient
  /// `host:port`
  let registry: String
  /// A root file system with busybox in it, as tar.
  let archive: [UInt8]
  /// Name of an image made of it.
  let image = "supervisor-test/busybox:1"
  private let directory: TemporaryDirectory
  private let privateEngine: PrivateEngine?
  private let registryProcess: BackgroundProcess?

  static func require() throws -> EngineFixture {
    try #require(current, "the suite lacks the trait .sharedEngine")
  }

  static func setUp() async throws { current = try await EngineFixture() }

  private init() async throws {
    LoopDriver.start()
    directory = try TemporaryDirectory()
    if let name = Self.environment("SUPERVISOR_TEST_ENGINE") {
      let endpoint = try #require(EngineEndpoint(name), "SUPERVISOR_TEST_ENGINE=\(name)")
      engine = EngineClient(endpoint, client: HTTPClient())
      privateEngine = nil
    } else {
      let started = try PrivateEngine()
      try await started.start()
      privateEngine = started
      engine = started.client
    }
    if let name = Self.environment("SUPERVISOR_TEST_REGISTRY") {
      registry = name
      registryProcess = nil
    } else {
      registry = "127.0.0.1:\(Int.random(in: 30000..<32000))"
      registryProcess = try await Self.startRegistry(registry, in: directory.path)
    }
    archive = try await Self.makeArchive(in: directory.path, extraBytes: 0)
    _ = try await engine.importImage(
      .bytes(archive), repository: "supervisor-test/busybox", tag: "1",
      changes: ["CMD [\"sleep\", \"1000\"]", "LABEL made=here"])
  }

  func tearDown() async {
    if privateEngine == nil { try? await engine.removeImage(image, force: true) }
    await privateEngine?.remove()
    await registryProcess?.stop()
    await directory.remove()
  }

  static func environment(_ name: String) -> String? {
    guard let value = getenv(name) else { return nil }
    let text = String(cString: value)
    return text.isEmpty ? nil : text
  }

  /// - Parameter extraBytes: of incompressible content, which makes the layer that much larger.
  static func makeArchive(in path: String, extraBytes: Int) async throws -> [UInt8] {
    let script = """
      set -e; mkdir -p root/bin root/tmp; cp /bin/busybox root/bin/busybox
      for name in sh sleep cat echo true; do ln -sf busybox root/bin/$name; done
      head -c \(extraBytes) /dev/urandom > root/filler; tar -C root -cf root.tar .
      """
    let outcome = try await ChildProcess.run(
      "/bin/sh", ["-c", "cd \(path); " + script], timeout: .seconds(60))
    try #require(outcome.isSuccess, "\(String(decoding: outcome.errorOutput, as: UTF8.self))")
    let file = try #require(fopen(path + "/root.tar", "r"))
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return bytes
  }

  private static func startRegistry(_ address: String, in path: String) async throws -> BackgroundProcess {
    let configuration = """
      version: 0.1
      log: {level: warn}
      storage: {filesystem: {rootdirectory: \(path)/registry}}
      http: {addr: \(address)}
      """
    let outcome = try await ChildProcess.run(
      "/bin/sh", ["-c", "printf '%s\\n' \"$1\" > \"$2\"", "sh", configuration, "\(path)/registry.yml"],
      timeout: .seconds(10))
    try #require(outcome.isSuccess)
    try #require(
      access("/usr/bin/docker-registry", X_OK) == 0,
      "tests of pulls need /usr/bin/docker-registry (Debian: docker-registry) or SUPERVISOR_TEST_REGISTRY")
    let process = try BackgroundProcess(
      ["/usr/bin/docker-registry", "serve", "\(path)/registry.yml"], output: "\(path)/registry.log")
    let isUp = await eventually {
      do throws(ClientError) {
        return try await HTTPClient.shared.send(ClientRequest("GET", "http://\(address)/v2/")).status == 200
      } catch {
        return false
      }
    }
    try #require(isUp, "docker-registry did not start:\n\(process.output)")
    return process
  }
}

/// Runs a suite with `EngineFixture.current` set.
nonisolated struct SharedEngine: SuiteTrait, TestScoping {
  var isRecursive: Bool { false }

  @concurrent func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
  ) async throws {
    try await EngineFixture.setUp()
    let outcome: Result<Void, any Error>
    do {
      outcome = .success(try await function())
    } catch {
      outcome = .failure(error)
    }
    await EngineFixture.current?.tearDown()
    try outcome.get()
  }
}

nonisolated extension Trait where Self == SharedEngine {
  static var sharedEngine: Self { SharedEngine() }
}
