import EventLoop
import Glibc
import Testing
import TestSupport

@testable import HTTP

@Suite(.serialized) struct `An answer given later` {
  static let later = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"

  @Test func `keeps the requests behind it waiting`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send(Self.later + `A connection`.ping)
    #expect(await eventually { fixture.responders.count == 1 })
    try await Task.sleep(for: .milliseconds(30))
    client.poll()
    #expect(client.received.isEmpty)
    fixture.responders.removeFirst().respond(.text("late"))
    let answer = try #require(await client.read(until: "\r\n\r\nOK"))
    #expect(answer.contains("\r\n\r\nlateHTTP/1.1 200 OK"))
    #expect(fixture.finished.first == "GET /later 200 4")
    await fixture.server.stop()
  }

  @Test func `from within another connection's handler goes to its own client`() async throws {
    let fixture = try Fixture()
    let (waiting, releasing) = (try fixture.client(), try fixture.client())
    await waiting.send(Self.later + `A connection`.ping)
    #expect(await eventually { fixture.responders.count == 1 })
    await releasing.send(
      `A connection`.ping + "GET /release HTTP/1.1\r\nHost: a\r\n\r\n" + `A connection`.ping)
    let released = try #require(await releasing.read(until: "OK", count: 5))
    #expect(released.components(of: "\r\n\r\nreleased") == 1 && !released.contains("late"))
    let late = try #require(await waiting.read(until: "\r\n\r\nOK"))
    #expect(late.components(of: "\r\n\r\nlate") == 1 && !late.contains("released"))
    await fixture.server.stop()
  }

  @Test func `is not awaited any more when the client has gone`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send(Self.later)
    #expect(await eventually { fixture.responders.count == 1 })
    client.close()
    #expect(await eventually { fixture.cancelled == 1 })
    #expect(fixture.responders[0].isCancelled && fixture.server.connectionCount == 0)
    fixture.responders[0].respond(.text("too late"))
    await fixture.server.stop()
  }

  @Test func `that everybody forgot is 503`() async throws {
    let fixture = try Fixture()
    #expect(try await fixture.get("GET", "/forgotten").hasPrefix("HTTP/1.1 503 "))
    let client = try fixture.client()
    await client.send(Self.later)
    #expect(await eventually { fixture.responders.count == 1 })
    fixture.responders = []
    #expect(await client.read(until: "HTTP/1.1 503 ") != nil)
    await fixture.server.stop()
  }
}

@Suite(.serialized) struct `A stream` {
  @Test func `is chunked, and the connection goes on`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" + `A connection`.ping)
    let answer = try #require(await client.read(until: "\r\n\r\nOK"))
    #expect(answer.contains("Transfer-Encoding: chunked\r\n"))
    #expect(
      answer.contains("\r\n\r\n7\r\nline 1\n\r\n7\r\nline 2\n\r\n7\r\nline 3\n\r\n0\r\n\r\nHTTP/1.1 200 OK"))
    #expect(fixture.finished.first == "GET /stream 200 21")
    await fixture.server.stop()
  }

  @Test func `to HTTP 1.0 ends with the connection`() async throws {
    let fixture = try Fixture()
    let answer = try await fixture.exchange("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    #expect(answer.hasSuffix("\r\n\r\nline 1\nline 2\nline 3\n"))
    await fixture.server.stop()
  }

  @Test func `sends its head before there is a body`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send("GET /quiet HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(await client.read(until: "\r\n\r\n")?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
    client.close()
    #expect(await eventually { fixture.cancelled == 1 && fixture.server.connectionCount == 0 })
    await fixture.server.stop()
  }

  @Test func `waits for a client that does not read, and goes on with it`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client(receiveBuffer: 4096)
    await client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(await eventually { fixture.flooded > 0 })
    var before = -1
    while before != fixture.flooded {
      before = fixture.flooded
      try await Task.sleep(for: .milliseconds(100))
    }
    // What the kernel's buffers hold, and ours.
    #expect(fixture.flooded < 16_000_000)
    #expect(
      await eventually {
        client.poll()
        return fixture.flooded > before + 4_000_000
      })
    client.close()
    #expect(await eventually { fixture.cancelled == 1 })
    await fixture.server.stop()
  }

  @Test func `without an end leaves others their turn`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
    let reader = Task {
      while !Task.isCancelled {
        client.poll()
        client.clear()
        await Task.yield()
      }
    }
    #expect(await eventually { fixture.flooded > 1_000_000 })
    #expect(try await fixture.get("GET", "/ping").hasSuffix("OK"))
    reader.cancel()
    await fixture.server.stop()
    #expect(fixture.cancelled == 1)
  }
}

@Suite(.serialized) struct `Timeouts` {
  private func configuration(_ set: (inout Server.Configuration) -> Void) -> Server.Configuration {
    var configuration = Server.Configuration()
    set(&configuration)
    return configuration
  }

  @Test func `cut off a client that sends its head too slowly`() async throws {
    let fixture = try Fixture(configuration { $0.headTimeout = .milliseconds(300) })
    let client = try fixture.client()
    var sent = 0
    for byte in Array("GET /ping HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".utf8) {
      await client.send([byte])
      sent += 1
      client.poll()
      if !client.received.isEmpty { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(await client.readToEnd()?.hasPrefix("HTTP/1.1 408 ") == true)
    #expect(fixture.server.counters.timedOut >= 1)
    await fixture.server.stop()
  }

  @Test func `cut off a client that sends nothing, or a part of a body`() async throws {
    let fixture = try Fixture(
      configuration {
        $0.headTimeout = .milliseconds(100)
        $0.requestTimeout = .milliseconds(100)
      })
    #expect(await (try fixture.client()).readToEnd() == "")
    #expect(
      try await fixture.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
        .hasPrefix("HTTP/1.1 408 "))
    await fixture.server.stop()
  }

  @Test func `close idle connections, but not streams nor waiting requests`() async throws {
    let fixture = try Fixture(
      configuration {
        $0.keepAliveTimeout = .milliseconds(100)
        $0.headTimeout = .seconds(5)
      })
    let (idle, stream, waiting) = (try fixture.client(), try fixture.client(), try fixture.client())
    await idle.send(`A connection`.ping)
    await stream.send("GET /quiet HTTP/1.1\r\nHost: a\r\n\r\n")
    await waiting.send(`An answer given later`.later)
    #expect(await idle.readToEnd()?.hasSuffix("OK") == true)
    try await Task.sleep(for: .milliseconds(600))
    #expect(fixture.server.connectionCount == 2)
    await fixture.server.stop()
  }

  @Test func `leave no timer behind the last connection`() async throws {
    let fixture = try Fixture()
    #expect(try await fixture.get("GET", "/ping").hasSuffix("OK"))
    #expect(await eventually { fixture.server.connectionCount == 0 })
    #expect(!fixture.server.hasTimer)
    await fixture.server.stop()
  }
}
