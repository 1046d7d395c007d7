import EventLoop
import Glibc
import TestSupport
import Testing

@testable import HTTPClient

/// `openssl s_server` with a certificate of a CA that nobody else knows.
private final class TLSServer {
  let directory: TemporaryDirectory
  let port: Int
  let process: BackgroundProcess
  let rootPEM: String

  init() async throws {
    LoopDriver.start()
    directory = try TemporaryDirectory()
    port = Int.random(in: 20000..<30000)
    let path = directory.path
    try await Self.openssl(
      "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "\(path)/ca.key", "-out", "\(path)/ca.pem",
      "-subj", "/CN=Test root", "-days", "2")
    try await Self.openssl(
      "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "\(path)/key.pem", "-out", "\(path)/request.pem",
      "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    try await Self.openssl(
      "x509", "-req", "-in", "\(path)/request.pem", "-CA", "\(path)/ca.pem", "-CAkey", "\(path)/ca.key",
      "-CAcreateserial", "-copy_extensions", "copy", "-days", "2", "-out", "\(path)/cert.pem")
    let text = try await ChildProcess.run("/bin/cat", ["\(path)/ca.pem"], timeout: .seconds(10))
    rootPEM = String(decoding: text.output, as: UTF8.self)
    process = try BackgroundProcess(
      [
        "/usr/bin/openssl", "s_server", "-accept", "127.0.0.1:\(port)", "-cert", "\(path)/cert.pem",
        "-key", "\(path)/key.pem", "-www",
      ], output: "\(path)/log")
    let logPath = "\(path)/log"
    let isUp = await eventually {
      let log = try? await ChildProcess.run("/bin/cat", [logPath], timeout: .seconds(10))
      return String(decoding: log?.output ?? [], as: UTF8.self).contains("ACCEPT")
    }
    #expect(isUp, "\(process.output)")
  }

  private static func openssl(_ arguments: String...) async throws {
    let outcome = try await ChildProcess.run("/usr/bin/openssl", arguments, timeout: .seconds(60))
    #expect(outcome.isSuccess, "\(String(decoding: outcome.errorOutput, as: UTF8.self))")
  }

  func stop() async {
    await process.stop()
    await directory.remove()
  }

  var url: String { "https://127.0.0.1:\(port)/" }
}

@Suite struct TLSTests {
  @Test func onlyAKnownRootIsTrustedAndSessionsAreReused() async throws {
    let server = try await TLSServer()

    let stranger = HTTPClient()
    let error = await #expect(throws: ClientError.self) {
      try await stranger.send(ClientRequest("GET", server.url))
    }
    #expect(error?.kind == .tls)
    #expect(error?.message.hasPrefix("https://127.0.0.1:\(server.port): ") == true)

    let client = HTTPClient()
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    #expect(client.setExtraRoots([broken + server.rootPEM, "not PEM at all"]) == 1)
    let first = try await client.send(ClientRequest("GET", server.url))
    #expect(first.status == 200)
    // The server closes after each answer and tells in it whether the session was a known one.
    #expect(String(decoding: first.body, as: UTF8.self).contains("New, TLS"))
    let second = try await client.send(ClientRequest("GET", server.url))
    #expect(String(decoding: second.body, as: UTF8.self).contains("Reused, TLS"))
    await server.stop()
  }

  /// DER of the right length that is no certificate.
  private static let damaged = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"

  @Test func aBlockThatCannotBeReadIsLeftOutAlone() async throws {
    let server = try await TLSServer()
    let client = HTTPClient()
    var left: [Int] = []
    client.onUnreadableRoots = { left.append($0) }
    #expect(client.setExtraRoots([Self.damaged + server.rootPEM]) == 2)
    async let first = client.send(ClientRequest("GET", server.url))
    async let second = client.send(ClientRequest("GET", server.url))
    let statuses = try await [first.status, second.status]
    #expect(statuses == [200, 200])
    #expect(left == [1])
    await server.stop()
  }

  @Test func theSystemsBundleCountsBesideExtraRootsWhereThereIsNoDirectory() async throws {
    let server = try await TLSServer()
    let bundle = "\(server.directory.path)/ca.pem"
    let other = try await TLSServer()
    var roots = TrustRoots(systemDirectory: nil, systemBundle: bundle)
    #expect(roots.setExtra([other.rootPEM + Self.damaged]) == 2)
    let client = HTTPClient(roots: roots)
    for url in [server.url, other.url] {
      let answer = try await client.send(ClientRequest("GET", url))
      #expect(answer.status == 200)
    }
    await server.stop()
    await other.stop()
  }

  @Test func certificatesAreFoundAmongOtherBlocksAndNoise() {
    let good = "-----BEGIN CERTIFICATE-----\r\nMAMCAQE=\r\n-----END CERTIFICATE-----\r\n"
    let key = "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n"
    let truncated = "-----BEGIN CERTIFICATE-----\nMAQCAQE=\n-----END CERTIFICATE-----\n"
    let open = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n"
    let text = "subject: x\n" + key + truncated + open + good + "noise"
    let expected = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
    #expect(TrustRoots.certificates(in: text) == [expected])
  }
}
