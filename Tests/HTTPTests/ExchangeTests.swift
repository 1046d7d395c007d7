import Glibc
import Testing
import TestSupport

@testable import HTTP

@Suite(.serialized) struct `A connection` {
  static let ping = "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"

  @Test func `stays open and says for how long`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    for _ in 1...3 {
      await client.send(Self.ping)
      let answer = try #require(await client.read(until: "\r\n\r\nOK"))
      #expect(answer.contains("\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n"))
      #expect(answer.contains("\r\nDate: ") && !answer.contains("Server:") && !answer.contains("1970"))
      client.clear()
    }
    #expect(fixture.server.counters.accepted == 1 && fixture.server.counters.requests == 3)
    #expect(fixture.finished == Array(repeating: "GET /ping 200 2", count: 3))
    await fixture.server.stop()
    #expect(await client.readToEnd() == "")
  }

  @Test func `closes when the client wants it, and after HTTP 1.0`() async throws {
    let fixture = try Fixture()
    #expect(try await fixture.get("GET", "/ping").contains("\r\nConnection: close\r\n"))
    #expect(try await fixture.exchange("GET /ping HTTP/1.0\r\n\r\n").hasSuffix("\r\n\r\nOK"))
    await fixture.server.stop()
  }

  @Test func `answers pipelined requests in their order`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    var batch = ""
    for number in 1...2000 { batch += "GET /things/\(number)/state HTTP/1.1\r\nHost: a\r\n\r\n" }
    async let sent = client.send(batch)
    _ = try #require(await client.read(until: "\r\n\r\n2000"))
    #expect(await sent)
    let numbers = client.text.split(separator: "\r\n\r\n").dropFirst().compactMap {
      Int($0.prefix { $0.isNumber })
    }
    #expect(numbers == Array(1...2000))
    await fixture.server.stop()
  }

  @Test func `answers what stands before a broken request, then that, then nothing`() async throws {
    let fixture = try Fixture()
    let answer = try await fixture.exchange(Self.ping + "GET /a b HTTP/1.1\r\n\r\n" + Self.ping)
    #expect(answer.components(of: "HTTP/1.1 200 ") == 1)
    #expect(answer.components(of: "HTTP/1.1 400 ") == 1)
    #expect(answer.hasSuffix("Connection: close\r\n\r\n"))
    await fixture.server.stop()
  }

  @Test func `takes requests in single bytes`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    for byte in Array("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab".utf8) {
      await client.send([byte])
      try await Task.sleep(for: .milliseconds(1))
    }
    #expect(await client.read(until: "\r\n\r\n{}") != nil)
    #expect(fixture.bodies == ["ab"])
    await fixture.server.stop()
  }

  @Test func `answers limits by their names`() async throws {
    let fixture = try Fixture()
    let long = String(repeating: "a", count: Limits.targetBytes)
    #expect(try await fixture.get("GET", "/\(long)").hasPrefix("HTTP/1.1 414 "))
    #expect(try await fixture.get("GET", "/", "X: \(long)\r\nY: \(long)\r\n").hasPrefix("HTTP/1.1 431 "))
    #expect(try await fixture.get("GET", "/", "Expect: tea\r\n").hasPrefix("HTTP/1.1 417 "))
    #expect(try await fixture.exchange("GET / HTTP/3.0\r\n\r\n").hasPrefix("HTTP/1.1 505 "))
    await fixture.server.stop()
  }

  @Test func `sends a body that is larger than the socket takes`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client(receiveBuffer: 4096)
    await client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n" + Self.ping)
    try await Task.sleep(for: .milliseconds(50))
    _ = try #require(await client.read(until: "\r\n\r\nOK"))
    #expect(client.received.count > 4_000_000)
    #expect(client.received.filter { $0 == 0x7E }.count == 4_000_000)
    await fixture.server.stop()
  }

  @Test func `beyond the allowed number is told so`() async throws {
    var configuration = Server.Configuration()
    configuration.connectionLimit = 1
    let fixture = try Fixture(configuration)
    let first = try fixture.client()
    await first.send(Self.ping)
    #expect(await first.read(until: "OK") != nil)
    #expect(await (try fixture.client()).readToEnd()?.hasPrefix("HTTP/1.1 503 ") == true)
    #expect(fixture.server.counters.refused == 1)
    await fixture.server.stop()
  }
}

@Suite(.serialized) struct `An uploaded body` {
  @Test func `may be chunked`() async throws {
    let fixture = try Fixture()
    let answer = try await fixture.get(
      "POST", "/echo",
      "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n3;x\r\n[1]\r\n1\r\n}\r\n0\r\n"
    )
    #expect(answer.hasSuffix("\r\n\r\n{\"a\":[1]}"))
    await fixture.server.stop()
  }

  @Test func `that is broken is refused and not acted upon`() async throws {
    let fixture = try Fixture()
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    #expect(try await fixture.exchange(head + "5\r\nhelloX").hasPrefix("HTTP/1.1 400 "))
    let truncated = try fixture.client()
    await truncated.send(head + "5\r\nhel")
    truncated.endSending()
    #expect(await truncated.readToEnd()?.hasPrefix("HTTP/1.1 400 ") == true)
    #expect(fixture.bodies.isEmpty)
    await fixture.server.stop()
  }

  @Test func `is asked for with 100 Continue, once, and only if it is wanted`() async throws {
    let fixture = try Fixture(key: "k")
    let client = try fixture.client()
    await client.send(
      "POST /echo?key=k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    #expect(await client.read(until: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
    await client.send("ab")
    #expect(await client.read(until: "{}") != nil)
    let refused = try await fixture.exchange(
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    #expect(refused.hasPrefix("HTTP/1.1 401 ") && refused.contains("Connection: close"))
    await fixture.server.stop()
  }

  @Test func `over the limit is not kept, and the client can read that`() async throws {
    let fixture = try Fixture()
    let size = Limits.bodyBytes + 1
    for framing in [
      "Content-Length: \(size)\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n\(String(size, radix: 16))\r\n",
    ] {
      let client = try fixture.client()
      await client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + framing)
      await client.send([UInt8](repeating: 0x20, count: size))
      let answer = await client.readToEnd() ?? ""
      #expect(answer.hasPrefix("HTTP/1.1 503 "))
      #expect(answer.hasSuffix(#"{"status":"failed","message":"request entity too large"}"#))
    }
    #expect(fixture.bodies.isEmpty && fixture.server.bodyBytes == 0)
    await fixture.server.stop()
  }

  @Test func `that no route reads does not fail it, and the connection goes on`() async throws {
    let fixture = try Fixture()
    let client = try fixture.client()
    await client.send(
      "POST /blink HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{"
        + "POST /blink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n"
        + `A connection`.ping)
    let answer = try #require(await client.read(until: "\r\n\r\nOK"))
    #expect(answer.components(of: "HTTP/1.1 200 ") == 3)
    await fixture.server.stop()
  }

  @Test func `that cannot be read fails every route behind it, unknown ones too`() async throws {
    let fixture = try Fixture()
    for target in ["POST /echo", "POST /nothing", "GET /things/1/state"] {
      let answer = try await fixture.exchange(
        "\(target) HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{"
      )
      #expect(
        answer.hasPrefix("HTTP/1.1 503 ") && answer.contains(#"{"status":"failed","message":""#), "\(target)")
    }
    #expect(fixture.bodies.isEmpty)
    await fixture.server.stop()
  }

  @Test func `is refused when others fill the memory for bodies`() async throws {
    let fixture = try Fixture()
    var clients: [RawClient] = []
    for _ in 0..<4 {
      let client = try fixture.client()
      await client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \(Limits.bodyBytes)\r\n\r\n")
      await client.send([UInt8](repeating: 0x20, count: Limits.bodyBytes - 1))
      clients.append(client)
    }
    let isRefused = await eventually {
      for client in clients { client.poll() }
      return clients.contains { $0.text.hasPrefix("HTTP/1.1 503 ") }
    }
    #expect(isRefused && clients.filter { $0.received.isEmpty }.count == 3)
    for client in clients { client.close() }
    #expect(await eventually { fixture.server.bodyBytes == 0 })
    await fixture.server.stop()
  }
}
