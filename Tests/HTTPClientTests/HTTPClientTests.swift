import EventLoop
import Glibc
import TestSupport
import Testing

@testable import HTTPClient

@Suite struct RequestTests {
  @Test func aRequestAndItsAnswerTravelWhole() async throws {
    var head: String?
    var body: [UInt8] = []
    let server = try TestServer { peer in
      head = await peer.readHead()
      body = await peer.read(5)
      await peer.answer("201 Created", headers: ["X-Kind: one", "x-kind: two"], "made")
    }
    defer { server.close() }
    let client = HTTPClient(userAgent: "Supervisor/1.2.3")
    let answer = try await client.send(
      ClientRequest(
        "PATCH", "\(server.url)/a%20b?c=d", headers: [("X-Test", "yes"), ("X-Empty", "")],
        body: .bytes(Array("hello".utf8))))
    #expect(answer.status == 201)
    #expect(answer.body == Array("made".utf8))
    #expect(answer.headers["X-KIND"] == "one")
    #expect(body == Array("hello".utf8))
    let lines = try #require(head).split(separator: "\r\n").map(String.init)
    #expect(lines.first == "PATCH /a%20b?c=d HTTP/1.1")
    #expect(lines.contains("User-Agent: Supervisor/1.2.3"))
    #expect(lines.contains("X-Test: yes"))
    #expect(lines.contains("X-Empty:"))
    #expect(lines.contains("Content-Length: 5"))
    #expect(!lines.contains { $0.hasPrefix("Expect") || $0.hasPrefix("Content-Type") })
  }

  @Test(arguments: ["GET", "POST", "DELETE", "PUT", "HEAD"])
  func aMethodWithoutBodyIsSentAsItIs(method: String) async throws {
    var head = ""
    let server = try TestServer { peer in
      head = await peer.readHead() ?? ""
      await peer.answer("404 Not Found", method == "HEAD" ? "" : "gone")
    }
    defer { server.close() }
    let answer = try await HTTPClient().send(ClientRequest(method, server.url + "/x"))
    #expect(answer.status == 404)
    #expect(head.hasPrefix("\(method) /x HTTP/1.1\r\n"))
    #expect(!head.contains("Transfer-Encoding"))
    #expect(head.contains("Content-Length: 0") == (method == "POST" || method == "PUT"))
  }

  @Test func aLargeBodyIsSentWithoutWaitingForContinue() async throws {
    var received = 0
    let size = 3_000_000
    let server = try TestServer { peer in
      let head = await peer.readHead() ?? ""
      #expect(!head.lowercased().contains("expect:"))
      received = await peer.read(size).count
      await peer.answer()
    }
    defer { server.close() }
    _ = try await HTTPClient().send(
      ClientRequest("POST", server.url, body: .bytes([UInt8](repeating: 7, count: size))))
    #expect(received == size)
  }

  @Test func proxyVariablesAreIgnored() async throws {
    setenv("http_proxy", "http://127.0.0.1:1", 1)
    defer { unsetenv("http_proxy") }
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.answer()
    }
    defer { server.close() }
    #expect(try await HTTPClient().send(ClientRequest("GET", server.url)).status == 200)
  }

  @Test func aSocketOfTheFileSystemServesAsWellAsAnAddress() async throws {
    let directory = try TemporaryDirectory()
    let server = try TestServer(unixPath: directory.path + "/s") { peer in
      _ = await peer.readHead()
      await peer.answer("200 OK", "through a socket")
    }
    defer { server.close() }
    let answer = try await HTTPClient().send(
      ClientRequest("GET", "http://localhost/", unixSocket: server.unixPath))
    #expect(answer.body == Array("through a socket".utf8))
    await directory.remove()
  }

  @Test func requestsReuseAConnection() async throws {
    let server = try TestServer { peer in
      while await peer.readHead() != nil { await peer.answer("200 OK", "again") }
    }
    defer { server.close() }
    let client = HTTPClient()
    for _ in 0..<5 { _ = try await client.send(ClientRequest("GET", server.url)) }
    #expect(server.acceptedConnections == 1)
  }

  @Test func aKeptConnectionThatThePeerClosedIsReplaced() async throws {
    let directory = try TemporaryDirectory()
    let server = try TestServer(unixPath: directory.path + "/s") { peer in
      _ = await peer.readHead()
      await peer.answer("200 OK", "once")
    }
    defer { server.close() }
    let client = HTTPClient()
    for _ in 0..<3 {
      let request = ClientRequest(
        "POST", "http://localhost/", unixSocket: server.unixPath, body: .bytes([1, 2, 3]))
      #expect(try await client.send(request).body == Array("once".utf8))
    }
    #expect(server.acceptedConnections == 3)
    await directory.remove()
  }

  @Test func manyRequestsRunAtOnce() async throws {
    let server = try TestServer { peer in
      while let head = await peer.readHead() {
        await peer.answer("200 OK", String(head.prefix { !$0.isNewline }))
      }
    }
    defer { server.close() }
    let client = HTTPClient()
    let tasks = (0..<40).map { number in
      Task { try await client.send(ClientRequest("GET", "\(server.url)/\(number)")).body }
    }
    for (number, task) in tasks.enumerated() {
      #expect(try await task.value == Array("GET /\(number) HTTP/1.1".utf8))
    }
  }

  @Test func aRedirectIsFollowedOnlyWhenAskedFor() async throws {
    let server = try TestServer { peer in
      while let head = await peer.readHead() {
        if head.hasPrefix("GET /old") {
          await peer.answer("302 Found", headers: ["Location: /new", "X-Hop: first"], "moved")
        } else {
          await peer.answer("200 OK", "new")
        }
      }
    }
    defer { server.close() }
    let client = HTTPClient()
    let plain = try await client.send(ClientRequest("GET", server.url + "/old"))
    #expect(plain.status == 302)
    let followed = try await client.send(ClientRequest("GET", server.url + "/old", maximumRedirects: 10))
    #expect(followed.status == 200)
    #expect(followed.body == Array("new".utf8))
    #expect(followed.headers["X-Hop"] == nil)
  }

  @Test func aKeyGoesWhereARedirectLeadsOnTheSameHostByHTTPSAlone() async throws {
    let request = ClientRequest("GET", "http://cloud.example:80/a", headers: [("Authorization", "key")])
    #expect(!request.mayLoseKey)
    for place in ["https://cloud.example/a", "HTTPS://Cloud.Example:8443/b?c=d"] {
      #expect(request.isSecured(by: place))
    }
    for place in [
      "http://cloud.example/a", "https://cloud.example.net/a", "https://cloud.example@evil.example/", "/a",
      "",
      "https://evil.example/cloud.example", "https:cloud.example",
    ] { #expect(!request.isSecured(by: place)) }

    var heads: [String] = []
    let other = try TestServer { peer in
      while let head = await peer.readHead() {
        heads.append(head)
        await peer.answer("200 OK", "other")
      }
    }
    defer { other.close() }
    let server = try TestServer { peer in
      while await peer.readHead() != nil {
        await peer.answer("301 Moved Permanently", headers: ["Location: http://localhost:\(other.port)/"])
      }
    }
    defer { server.close() }
    let answer = try await HTTPClient().send(
      ClientRequest("GET", server.url, headers: [("Authorization", "Bearer key")], maximumRedirects: 10))
    #expect(answer.body == Array("other".utf8))
    #expect(heads.count == 1 && heads.allSatisfy { !$0.contains("Bearer") })
  }

  @Test func endlessRedirectsAreAnError() async throws {
    let server = try TestServer { peer in
      while await peer.readHead() != nil { await peer.answer("302 Found", headers: ["Location: /again"]) }
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url, maximumRedirects: 3))
    }
    #expect(error?.kind == .tooManyRedirects)
  }

  @Test(arguments: ["X\r\nInjected", "X\n"])
  func aHeaderCannotBringASecondOne(name: String) async throws {
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(
        ClientRequest("GET", "http://127.0.0.1:1/", headers: [(name, "v"), ("Y", "a\r\nZ: b")]))
    }
    #expect(error?.kind == .invalidRequest)
  }
}

@Suite struct FailureTests {
  @Test func aMissingSocketIsNamed() async throws {
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(
        ClientRequest("GET", "http://localhost/", unixSocket: "/nowhere/engine.sock"))
    }
    #expect(error?.kind == .unreachable)
    #expect(error?.phase == .connecting)
    #expect(error?.message == "unix:///nowhere/engine.sock: cannot connect: No such file or directory")
  }

  @Test func aRefusedConnectionNamesThePeer() async throws {
    let server = try TestServer { _ in }
    let url = server.url
    server.close()
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", url))
    }
    #expect(error?.kind == .unreachable)
    #expect(error?.message == "\(url): cannot connect: Connection refused")
  }

  @Test func anUnknownNameIsNotResolved() async throws {
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", "http://no-such-host.invalid/"))
    }
    #expect(error?.kind == .nameNotResolved)
  }

  @Test func silenceBeforeTheAnswerTimesOut() async throws {
    let server = try TestServer { peer in await peer.waitForEnd() }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(
        ClientRequest("GET", server.url, timeouts: .init(firstByte: .milliseconds(60))))
    }
    #expect(error?.kind == .timeout)
    #expect(error?.phase == .waitingForAnswer)
  }

  @Test func silenceInTheMiddleOfTheAnswerTimesOut() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
      await peer.waitForEnd()
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url, timeouts: .init(idle: .milliseconds(60))))
    }
    #expect(error?.kind == .timeout)
    #expect(error?.phase == .readingBody)
  }

  @Test func anAnswerThatTricklesForEverIsCutOffByTheTotal() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\n\r\n")
      while await peer.write("x") { try? await EventLoop.shared.sleep(for: .milliseconds(5)) }
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(
        ClientRequest(
          "GET", server.url, timeouts: .init(idle: .milliseconds(500), total: .milliseconds(120))))
    }
    #expect(error?.kind == .timeout)
  }

  @Test func aConnectionThatEndsTooEarlyIsAnInterruption() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url))
    }
    #expect(error?.kind == .interrupted)
    #expect(error?.phase == .readingBody)
  }

  @Test func somethingElseThanHTTPIsAMalformedAnswer() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("SSH-2.0-OpenSSH_9.2\r\n")
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url))
    }
    #expect(error?.kind == .malformedAnswer)
  }

  @Test func anAnswerBeyondItsLimitIsRefused() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.answer("200 OK", String(repeating: "x", count: 2000))
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url, bodyLimit: 1999))
    }
    #expect(error?.kind == .answerTooLarge)
  }

  @Test func aHeadWithoutEndIsRefused() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\n")
      while await peer.write("X-Filler: " + String(repeating: "y", count: 1000) + "\r\n") {}
    }
    defer { server.close() }
    let error = await #expect(throws: ClientError.self) {
      try await HTTPClient().send(ClientRequest("GET", server.url))
    }
    #expect(error?.kind == .answerTooLarge)
  }

  @Test func cancellingTheTaskEndsTheRequestAndItsConnection() async throws {
    var isWaiting = false
    var sawEnd = false
    let server = try TestServer { peer in
      _ = await peer.readHead()
      isWaiting = true
      await peer.waitForEnd()
      sawEnd = peer.sawEnd
    }
    defer { server.close() }
    let client = HTTPClient()
    let task = Task { try await client.send(ClientRequest("GET", server.url)) }
    #expect(await eventually { isWaiting })
    task.cancel()
    let error = await #expect(throws: ClientError.self) { try await task.value }
    #expect(error?.kind == .cancelled)
    #expect(await eventually { sawEnd })
  }

  @Test func aTaskCancelledBeforehandSendsNothing() async throws {
    let server = try TestServer { _ in }
    defer { server.close() }
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await HTTPClient().send(ClientRequest("GET", server.url))
    }
    await #expect(throws: ClientError.self) { try await task.value }
    #expect(server.acceptedConnections == 0)
  }

  @Test func credentialsOfAURLStayOutOfErrors() async throws {
    let request = ClientRequest("GET", "http://user:secret@127.0.0.1:9/path")
    #expect(request.peer == "http://127.0.0.1:9")
  }
}
