import CSystemd
import Glibc
import Testing
import TestSupport

@testable import HTTP

@Suite(.serialized) struct `Listening` {
  private func server() -> Server {
    LoopDriver.start()
    var pipeline = Pipeline()
    let ok = PreparedResponse(.html("OK"))
    pipeline.open = [Route(.get, "/ping") { _ in .prepared(ok) }]
    return Server(pipeline: pipeline)
  }

  @Test func `on all addresses takes IPv4`() async throws {
    let server = server()
    let listener = try server.listen(on: .tcp(host: nil, port: 0))
    let client = try RawClient(port: listener.port)
    await client.send(`A connection`.ping)
    #expect(await client.read(until: "\r\n\r\nOK") != nil)
    await server.stop()
  }

  @Test func `on an address that the device does not have yet works where it is meant to`() async throws {
    // TEST-NET-2 of RFC 5737: nobody has it.
    let server = server()
    let error = #expect(throws: ListenError.self) {
      try server.listen(on: .tcp(host: "198.51.100.7", port: 0))
    }
    #expect(error?.reason == "Cannot assign requested address")
    let listener = try server.listen(on: .tcpFree(host: "198.51.100.7", port: 0))
    #expect(listener.port != 0)
    await server.stop()
  }

  @Test func `on a port in use names the address`() async throws {
    let (first, second) = (server(), server())
    let port = try first.listen(on: .tcp(host: "127.0.0.1", port: 0)).port
    let error = #expect(throws: ListenError.self) {
      try second.listen(on: .tcp(host: "127.0.0.1", port: port))
    }
    #expect(error?.description == "cannot listen on 127.0.0.1:\(port): Address already in use")
    await first.stop()
  }

  @Test func `on a unix socket replaces a dead one, respects a living one and spares other files`()
    async throws
  {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/api.sock"
    let first = server()
    try first.listen(on: .unix(path: path))
    var facts = stat()
    #expect(stat(path, &facts) == 0 && facts.st_mode & 0o777 == 0o660)
    let client = try RawClient(path: path)
    await client.send(`A connection`.ping)
    #expect(await client.read(until: "\r\n\r\nOK") != nil)

    let second = server()
    let inUse = #expect(throws: ListenError.self) { try second.listen(on: .unix(path: path)) }
    #expect(inUse?.description == "cannot listen on \(path): Address already in use")
    await first.stop()
    #expect(access(path, F_OK) != 0)

    let dead = csystemd_stream_socket(AF_UNIX)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
    #expect(Socket.withAddress(&name) { bind(dead, $0, $1) } == 0)
    close(dead)
    try second.listen(on: .unix(path: path))
    await second.stop()

    let file = directory.path + "/precious"
    close(open(file, O_CREAT | O_WRONLY, 0o600))
    #expect(throws: ListenError.self) { try server().listen(on: .unix(path: file)) }
    #expect(access(file, F_OK) == 0)
    await directory.remove()
  }

  @Test func `on a socket that somebody passed works`() async throws {
    let descriptor = try ListenSocket.tcp(host: "127.0.0.1", port: 0).open()
    let server = server()
    let listener = try server.listen(on: .descriptor(descriptor))
    let client = try RawClient(port: listener.port)
    await client.send(`A connection`.ping)
    #expect(await client.read(until: "\r\n\r\nOK") != nil)
    await server.stop()
  }

  @Test func `understands addresses as people write them`() {
    #expect(ListenSocket("127.0.0.1:80") == .tcp(host: "127.0.0.1", port: 80))
    #expect(ListenSocket("[::1]:80") == .tcp(host: "::1", port: 80))
    #expect(ListenSocket(":80") == .tcp(host: nil, port: 80))
    #expect(ListenSocket("*:80") == .tcp(host: nil, port: 80))
    #expect(ListenSocket("unix:///run/a") == .unix(path: "/run/a"))
    #expect(ListenSocket("80") == nil && ListenSocket("a:70000") == nil && ListenSocket("unix://a") == nil)
  }

  @Test func `with a thousand idle connections still answers`() async throws {
    var limits = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    try #require(limits.rlim_max >= 4096)
    if limits.rlim_cur < 4096 {
      limits.rlim_cur = 4096
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
    }
    let server = server()
    let port = try server.listen(on: .tcp(host: "127.0.0.1", port: 0)).port
    var clients: [RawClient] = []
    for _ in 0..<1000 { clients.append(try RawClient(port: port)) }
    #expect(await eventually { server.connectionCount == 1000 })
    let client = try RawClient(port: port)
    await client.send(`A connection`.ping)
    #expect(await client.read(until: "\r\n\r\nOK") != nil)
    clients = []
    #expect(await eventually { server.connectionCount == 1 })
    await server.stop()
  }
}
