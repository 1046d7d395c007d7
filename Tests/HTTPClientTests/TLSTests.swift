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
    let contents = client.setExtraRoots([broken + server.rootPEM, "not PEM at all"])
    #expect(contents?.map(\.count) == [1, 0])
    #expect(contents?.map(\.unreadable) == [1, 0])
    #expect(client.setExtraRoots([broken + server.rootPEM, "not PEM at all"]) == nil)
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

  @Test func aBlockThatIsNoCertificateDisablesNoOtherWhereverItStands() async throws {
    let server = try await TLSServer()
    let cut = Self.block(try #require(Self.content(server.rootPEM)).dropLast(9))
    let longer = Self.block(try #require(Self.content(server.rootPEM)) + [0])
    for text in [Self.damaged + server.rootPEM, server.rootPEM + cut, longer + server.rootPEM + Self.open] {
      let client = HTTPClient()
      let contents = client.setExtraRoots([text])
      #expect(contents?.map(\.count) == [1])
      #expect(contents?.map(\.unreadable) == [1 + (text.hasSuffix(Self.open) ? 1 : 0)])
      let answer = try await client.send(ClientRequest("GET", server.url))
      #expect(answer.status == 200)
    }
    await server.stop()
  }

  private static let open = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n"

  private static func content(_ pem: String) -> [UInt8]? {
    Base64.decode(pem.split(separator: "\n").filter { !$0.hasPrefix("-") }.joined())
  }

  private static func block(_ bytes: some Sequence<UInt8>) -> String {
    "-----BEGIN CERTIFICATE-----\n\(Base64.encode(Array(bytes)))\n-----END CERTIFICATE-----\n"
  }

  @Test func theSystemsBundleCountsBesideExtraRootsWhereThereIsNoDirectory() async throws {
    let server = try await TLSServer()
    let bundle = "\(server.directory.path)/ca.pem"
    let other = try await TLSServer()
    var roots = TrustRoots(systemDirectory: nil, systemBundle: bundle)
    // A bundle is read as the extra ones are.
    try await Self.append(Self.damaged, to: bundle)
    #expect(roots.setExtra([other.rootPEM + Self.damaged])?.map(\.count) == [1])
    let client = HTTPClient(roots: roots)
    for url in [server.url, other.url] {
      let answer = try await client.send(ClientRequest("GET", url))
      #expect(answer.status == 200)
    }
    await server.stop()
    await other.stop()
  }

  private static func append(_ text: String, to path: String) async throws {
    let outcome = try await ChildProcess.run(
      "/bin/sh", ["-c", "printf '%s' \"$1\" >>\"$2\"", "sh", text, path], timeout: .seconds(10))
    #expect(outcome.isSuccess)
  }

  @Test func certificatesAreFoundAmongOtherBlocksAndNoise() async throws {
    let server = try await TLSServer()
    let good = server.rootPEM.replacing("\n", with: "\r\n").replacing("\r\nMI", with: "\r\n MI")
    let key = "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n"
    let truncated = "-----BEGIN CERTIFICATE-----\nMAQCAQE=\n-----END CERTIFICATE-----\n"
    let content = PEMCertificates("subject: x\n" + key + truncated + Self.open + good + "noise\n" + good)
    #expect(content.count == 2)
    #expect(content.unreadable == 2)
    #expect(String(decoding: content.text, as: UTF8.self) == server.rootPEM + server.rootPEM)
    await server.stop()
  }
}
