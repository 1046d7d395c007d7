import EventLoop
import Glibc
import TestSupport
import Testing

@testable import HTTPClient

@Suite struct StreamTests {
  private static let megabyte = 1024 * 1024

  @Test func aSlowReaderStopsTheWriterAndMissesNothing() async throws {
    let size = 8 * Self.megabyte
    func content(_ offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: offset / 251) }
    var written = 0
    let directory = try TemporaryDirectory()
    let server = try TestServer(unixPath: directory.path + "/s") { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
      while written < size {
        let piece = (0..<64 * 1024).map { content(written + $0) }
        guard await peer.write(piece) else { return }
        written += piece.count
      }
    }
    defer { server.close() }

    let answer = try await HTTPClient().stream(ClientRequest("GET", server.url, unixSocket: server.unixPath))
    let first = try #require(try await answer.body.next())
    // The writer comes to rest on full socket buffers, far from the end.
    var before = -1
    while before != written {
      before = written
      try await EventLoop.shared.sleep(for: .milliseconds(100))
    }
    #expect(written < size / 2)

    var read = 0
    var chunk: [UInt8]? = first
    while let bytes = chunk {
      let isRight = [0, bytes.count / 2, bytes.count - 1].allSatisfy { bytes[$0] == content(read + $0) }
      guard isRight else {
        Issue.record("wrong bytes after \(read)")
        return
      }
      read += bytes.count
      chunk = try await answer.body.next()
    }
    #expect(read == size)
    await directory.remove()
  }

  @Test func theHeadIsThereBeforeTheBody() async throws {
    var mayGoOn = false
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n")
      _ = await eventually { mayGoOn }
      await peer.write("3\r\none\r\n0\r\n\r\n")
    }
    defer { server.close() }
    let answer = try await HTTPClient().stream(ClientRequest("GET", server.url))
    #expect(answer.status == 200)
    #expect(answer.headers["x-a"] == "b")
    mayGoOn = true
    #expect(try await answer.body.next() == Array("one".utf8))
    #expect(try await answer.body.next() == nil)
  }

  @Test func theBodyIsAnAsyncSequence() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.answer("200 OK", "in a loop")
    }
    defer { server.close() }
    var body: [UInt8] = []
    for try await chunk in try await HTTPClient().stream(ClientRequest("GET", server.url)).body {
      body += chunk
    }
    #expect(body == Array("in a loop".utf8))
  }

  @Test func aBodyThatBreaksOffThrowsAfterWhatCame() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    }
    defer { server.close() }
    let answer = try await HTTPClient().stream(ClientRequest("GET", server.url))
    #expect(try await answer.body.next() == Array("one".utf8))
    let error = await #expect(throws: ClientError.self) { try await answer.body.next() }
    #expect(error?.kind == .interrupted)
  }

  @Test func droppingABodyClosesTheConnection() async throws {
    var sawEnd = false
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
      await peer.waitForEnd()
      sawEnd = peer.sawEnd
    }
    defer { server.close() }
    let client = HTTPClient()
    func look() async throws -> Int { try await client.stream(ClientRequest("GET", server.url)).status }
    #expect(try await look() == 200)
    #expect(await eventually { sawEnd })
  }

  @Test func cancellingAReaderEndsItsWait() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.write("HTTP/1.1 200 OK\r\n\r\n")
      await peer.waitForEnd()
    }
    defer { server.close() }
    let body = try await HTTPClient().stream(ClientRequest("GET", server.url)).body
    let task = Task { try await body.next() }
    await Task.yield()
    task.cancel()
    let error = await #expect(throws: ClientError.self) { try await task.value }
    #expect(error?.kind == .cancelled)
  }

  @Test func aBodyKnowsWhatTheOtherSideHasTaken() async throws {
    var mayRead = false
    var received = 0
    let server = try TestServer { peer in
      _ = await peer.readHead()
      _ = await eventually { mayRead }
      received = await peer.readChunks()?.count ?? -1
      await peer.answer()
    }
    defer { server.close() }
    let body = RequestBody()
    #expect(body.acknowledged == nil)
    let client = HTTPClient()
    let request = Task { try await client.send(ClientRequest("POST", server.url, body: .stream(body))) }
    try await body.write([1, 2, 3])
    #expect(await eventually { body.acknowledged == 3 })
    let size = 16 * Self.megabyte
    let writer = Task {
      for _ in 0..<size / (32 * 1024) { try await body.write([UInt8](repeating: 1, count: 32 * 1024)) }
    }
    // Everything comes to rest on full buffers: the other side's system has some of it, ours the rest.
    var before = -1
    while before != body.acknowledged {
      before = body.acknowledged ?? 0
      try await EventLoop.shared.sleep(for: .milliseconds(200))
    }
    #expect(before < size)
    mayRead = true
    try await writer.value
    #expect(await eventually { body.acknowledged == size + 3 })
    body.finish()
    #expect(try await request.value.status == 200)
    #expect(received == size + 3)
    #expect(body.acknowledged == nil)
  }

  @Test func aBodyWhoseConnectionIsCutSaysSoWhileNothingIsSent() async throws {
    var mayEnd = false
    let server = try TestServer { peer in
      _ = await peer.readHead()
      _ = await peer.read(6)
      _ = await eventually { mayEnd }
    }
    defer { server.close() }
    let body = RequestBody()
    #expect(!body.isCut)
    let client = HTTPClient()
    let request = Task { try await client.send(ClientRequest("POST", server.url, body: .stream(body))) }
    try await body.write([1])
    #expect(await eventually { body.acknowledged == 1 })
    #expect(!body.isCut)
    #expect(body.packetsInFlight == 0)
    mayEnd = true
    #expect(await eventually { body.isCut })
    request.cancel()
    _ = await request.result
    #expect(!body.isCut)
  }

  @Test func aRequestBodyIsSentWhileItIsWritten() async throws {
    var first: [UInt8] = []
    var rest: [UInt8]?
    let server = try TestServer { peer in
      let head = await peer.readHead() ?? ""
      #expect(head.contains("Transfer-Encoding: chunked"))
      first = await peer.read(8)
      rest = await peer.readChunks()
      await peer.answer("200 OK", "thanks")
    }
    defer { server.close() }
    let body = RequestBody()
    let client = HTTPClient()
    let task = Task { try await client.send(ClientRequest("POST", server.url, body: .stream(body))) }
    try await body.write(Array("one".utf8))
    #expect(await eventually { first == Array("3\r\none\r\n".utf8) })
    try await body.write(Array("second".utf8))
    body.finish()
    #expect(try await task.value.body == Array("thanks".utf8))
    #expect(rest == Array("second".utf8))
  }

  @Test func aWriterWaitsForASlowServer() async throws {
    var mayRead = false
    var received = 0
    let directory = try TemporaryDirectory()
    let server = try TestServer(unixPath: directory.path + "/s") { peer in
      _ = await peer.readHead()
      _ = await eventually { mayRead }
      received = await peer.readChunks()?.count ?? -1
      await peer.answer()
    }
    defer { server.close() }
    let body = RequestBody()
    let client = HTTPClient()
    let request = Task {
      try await client.send(
        ClientRequest("POST", server.url, unixSocket: server.unixPath, body: .stream(body)))
    }
    let size = 8 * Self.megabyte
    var written = 0
    let writer = Task {
      while written < size {
        try await body.write([UInt8](repeating: 1, count: 32 * 1024))
        written += 32 * 1024
      }
      body.finish()
    }
    var before = -1
    while before != written {
      before = written
      try await EventLoop.shared.sleep(for: .milliseconds(100))
    }
    #expect(written < size / 2)
    #expect(body.backlog <= 96 * 1024)
    mayRead = true
    try await writer.value
    #expect(try await request.value.status == 200)
    #expect(received == size)
    await directory.remove()
  }

  @Test func aRefusalEndsTheWriter() async throws {
    let server = try TestServer { peer in
      _ = await peer.readHead()
      await peer.answer("401 Unauthorized", headers: ["Connection: close"], "no")
    }
    defer { server.close() }
    let body = RequestBody()
    let client = HTTPClient()
    let task = Task { try await client.send(ClientRequest("POST", server.url, body: .stream(body))) }
    #expect(try await task.value.status == 401)
    await #expect(throws: ClientError.self) { try await body.write([1]) }
  }

  @Test func anAbandonedBodyFailsItsRequest() async throws {
    let server = try TestServer { peer in await peer.waitForEnd() }
    defer { server.close() }
    let body = RequestBody()
    let client = HTTPClient()
    let task = Task { try await client.send(ClientRequest("POST", server.url, body: .stream(body))) }
    try await body.write([1, 2, 3])
    body.abandon()
    let error = await #expect(throws: ClientError.self) { try await task.value }
    #expect(error?.kind == .bodyFailed)
  }

  @Test func aSequenceServesAsABodyOfKnownLength() async throws {
    var received: [UInt8] = []
    let server = try TestServer { peer in
      let head = await peer.readHead() ?? ""
      #expect(head.contains("Content-Length: 6"))
      received = await peer.read(6)
      await peer.answer()
    }
    defer { server.close() }
    let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
    let body = RequestBody(stream, length: 6)
    let client = HTTPClient()
    let task = Task { try await client.send(ClientRequest("PUT", server.url, body: .stream(body))) }
    continuation.yield([1, 2, 3])
    continuation.yield([4, 5, 6])
    continuation.finish()
    #expect(try await task.value.status == 200)
    #expect(received == [1, 2, 3, 4, 5, 6])
  }

  @Test func anIdleClientLeavesTheLoopAlone() async throws {
    let server = try TestServer { peer in
      while await peer.readHead() != nil { await peer.answer() }
    }
    defer { server.close() }
    let client = HTTPClient()
    for _ in 0..<3 { _ = try await client.send(ClientRequest("GET", server.url)) }
    #expect(!client.hasTimer)
  }
}
