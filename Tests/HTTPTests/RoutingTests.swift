import Testing

@testable import HTTP

@Suite(.serialized) struct `Routing` {
  @Test func `compares paths without regard to case and to one slash at the end`() async throws {
    let fixture = try Fixture()
    #expect(try await fixture.get("GET", "/PING/").hasSuffix("\r\n\r\nOK"))
    #expect(try await fixture.get("GET", "/ping//").hasPrefix("HTTP/1.1 404 "))
    #expect(try await fixture.get("GET", "/Things/A%20b/STATE").hasSuffix("\r\n\r\nA b"))
    await fixture.server.stop()
  }

  @Test func `says which parameter it cannot decode`() async throws {
    let fixture = try Fixture()
    let answer = try await fixture.get("GET", "/things/%ZZ/state")
    #expect(answer.hasPrefix("HTTP/1.1 503 "))
    #expect(answer.hasSuffix(#"{"status":"failed","message":"Failed to decode param '%ZZ'"}"#))
    await fixture.server.stop()
  }

  @Test func `answers HEAD with the head of GET`() async throws {
    let fixture = try Fixture()
    let ping = try await fixture.get("HEAD", "/ping")
    #expect(ping.hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(ping.contains("Content-Length: 2\r\n") && ping.hasSuffix("\r\n\r\n"))
    let stream = try await fixture.get("HEAD", "/stream")
    #expect(stream.hasSuffix("\r\n\r\n") && stream.contains("chunked"))
    await fixture.server.stop()
  }

  @Test func `answers OPTIONS with the methods of the path`() async throws {
    let fixture = try Fixture()
    let both = try await fixture.get("OPTIONS", "/things/1/state")
    #expect(both.hasPrefix("HTTP/1.1 200 "))
    #expect(both.contains("\r\nAllow: GET,HEAD,PATCH\r\n") && both.hasSuffix("\r\n\r\nGET,HEAD,PATCH"))
    #expect(try await fixture.get("OPTIONS", "/blink").hasSuffix("\r\n\r\nPOST"))
    #expect(try await fixture.get("OPTIONS", "/nothing").hasPrefix("HTTP/1.1 404 "))
    await fixture.server.stop()
  }

  @Test func `answers what nobody knows with a page that names it harmlessly`() async throws {
    let fixture = try Fixture()
    let page = try await fixture.get("GET", "/x<b>&'y?z=1")
    #expect(page.hasPrefix("HTTP/1.1 404 Not Found\r\nContent-Type: text/html; charset=utf-8\r\n"))
    #expect(page.contains("\r\nContent-Security-Policy: default-src 'none'\r\n"))
    #expect(page.contains("\r\nX-Content-Type-Options: nosniff\r\n"))
    #expect(page.contains("<pre>Cannot GET /x%3Cb%3E&amp;&#39;y</pre>"))
    #expect(try await fixture.get("BREW", "/ping").contains("<pre>Cannot BREW /ping</pre>"))
    await fixture.server.stop()
  }

  @Test func `lets nobody without a key learn more than the open routes`() async throws {
    let fixture = try Fixture(key: "k")
    #expect(try await fixture.get("GET", "/ping").hasPrefix("HTTP/1.1 200 "))
    for (method, path) in [
      ("POST", "/ping"), ("OPTIONS", "/ping"), ("GET", "/nothing"), ("GET", "/things/%ZZ/state"),
      ("POST", "/blink"),
    ] {
      let answer = try await fixture.get(method, path)
      #expect(answer.hasPrefix("HTTP/1.1 401 ") && answer.hasSuffix("Unauthorized"), "\(method) \(path)")
    }
    #expect(try await fixture.get("GET", "/nothing?key=k").hasPrefix("HTTP/1.1 404 "))
    #expect(try await fixture.get("GET", "/nothing?key=k&key=k").hasPrefix("HTTP/1.1 401 "))
    await fixture.server.stop()
  }

  @Test func `refuses a body without a key before it has arrived`() async throws {
    let fixture = try Fixture(key: "k")
    let answer = try await fixture.exchange(
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{")
    #expect(answer.hasPrefix("HTTP/1.1 401 ") && answer.contains("Connection: close"))
    await fixture.server.stop()
  }

  @Test func `a path that is written out comes before one with a parameter, wherever it stands`() {
    let table = RouteTable([
      (.get, "/a/:id"), (.post, "/a/:id"), (.get, "/a/b"), (.get, "/a/:id/b"), (.patch, "/a/b"), (.get, "/"),
    ])
    var parameters: [Range<Int>] = []
    func match(_ method: HTTP.Method, _ path: String) -> RouteTable.Match {
      Array(path.utf8).withUnsafeBufferPointer { table.match(method, $0, parameters: &parameters) }
    }
    for path in ["/a/b", "/A/B", "/a/b/"] {
      #expect(match(.get, path) == .route(2))
      #expect(match(.head, path) == .route(2))
      #expect(match(.patch, path) == .route(4))
      #expect(parameters.isEmpty)
      // No such method of the one: the other.
      #expect(match(.post, path) == .route(1))
      #expect(parameters == [3..<4])
      #expect(match(.delete, path) == .none)
    }
    #expect(match(.get, "/a/c") == .route(0))
    #expect(match(.get, "/a/c/b") == .route(3))
    #expect(match(.get, "/") == .route(5))
    for path in ["", "/a", "/a//", "/a/b//", "/a/b/c", "/aa/b", "a/b"] {
      #expect(match(.get, path) == .none, "\(path)")
    }
  }
}
