import HostConfiguration
import JSON
import TestSupport
import Testing

private func parse(_ text: String) throws -> HostConfigRequest {
  try HostConfigRequest(parsing: try JSON(parsing: text))
}

/// The details of the refusal; nil when the body is taken.
private func refusal(_ text: String) throws -> String? {
  let body = try JSON(parsing: text)
  do throws(HostConfigRequest.InputError) { _ = try HostConfigRequest(parsing: body) } catch {
    return error.description
  }
  return nil
}

private let base = """
  base {
  \tlog_debug = off;
  \tlog_info = on;
  \tlog = stderr;
  \tdaemon = off;
  \tredirector = iptables;
  }

  """
private let complete =
  base + """

    redsocks {
    \ttype = socks5;
    \tip = example.org;
    \tport = 1080;
    \tlogin = "foo";
    \tpassword = "bar";
    \tlocal_ip = 127.0.0.1;
    \tlocal_port = 12345;
    }

    dnsu2t {
    \tremote_ip = 1.1.1.1;
    \tremote_port = 54;
    \tlocal_ip = 127.0.0.1;
    \tlocal_port = 53;
    }

    """

struct HostConfigRequestTests {
  private static let first = "Could not parse host config input to a valid format:\n"

  @Test(arguments: [
    (#"{}"#, "undefined"), (#"{"network":123}"#, "123"), (#"{"network":null}"#, "null"),
    (#"{"network":[]}"#, "[]"),
  ])
  func aBodyWithoutANetworkIsRefused(body: String, got: String) throws {
    #expect(
      try refusal(body) == Self.first
        + "Expecting Partial<{| proxy: ({ [K in string]: any } & Partial<{ dns: (AddressString | boolean) }>), hostname: string |}> at network but instead got: \(got)"
    )
  }

  @Test func aHostnameOfAnotherTypeIsRefused() throws {
    #expect(
      try refusal(#"{"network":{"hostname":123}}"#) == Self.first
        + "Expecting string at network.hostname but instead got: 123")
  }

  @Test(arguments: [
    "123", #""invalid-because-no-colon""#, #"":""#, #"":53""#, #""1.1.1.1""#, #""1.1.1.1:""#,
    #""example.com:not-a-port""#, #""a b:53""#, "[]",
  ])
  func aNameServerThatIsNoneIsRefused(dns: String) throws {
    let body = #"{"network":{"proxy":{"dns":\#(dns)}}}"#
    #expect(
      try refusal(body) == Self.first
        + "Expecting one of:\n    AddressString\n    boolean\nat network.proxy.1.dns but instead got: \(dns)")
  }

  @Test(arguments: ["balena.io:53", "1.1.1.1:5", "balena.io:65535", "[::1]:53"])
  func aNameServerIsAnAddressAndAPort(dns: String) throws {
    #expect(try refusal(#"{"network":{"proxy":{"dns":"\#(dns)"}}}"#) == nil)
  }

  @Test(arguments: ["null", "false", #""""#])
  func emptyValuesClearTheirField(value: String) throws {
    let request = try parse(#"{"network":{"hostname":\#(value),"proxy":\#(value)}}"#)
    #expect(request.hostname == .reset)
    #expect(request.proxy == .remove)
    let dns = try parse(#"{"network":{"proxy":{"dns":\#(value)}}}"#)
    #expect(dns.proxy == .update(members: [], dns: HostConfigRequest.DNS.none, noProxy: nil))
  }

  @Test(arguments: [
    #"{"force":true,"network":{}}"#, #"{"network":{"force":"on"}}"#, #"{"force":1,"network":{}}"#,
  ])
  func forceIsHonouredInBothPlaces(body: String) throws {
    #expect(try parse(body).force)
    #expect(!(try parse(#"{"force":"maybe","network":{}}"#).force))
  }

  @Test(arguments: [
    ("a", true), ("7-of-9.example.org", true), (String(repeating: "x", count: 63), true),
    (String(repeating: "x", count: 64), false), ("my_device", false), ("-a", false), ("a-", false),
    ("a..b", false), ("a.", false), ("ä", false), ("a b", false),
    ("a.\(String(repeating: "x", count: 62))", true), ("a.\(String(repeating: "x", count: 63))", false),
  ])
  func aHostnameThatIsNoneIsTakenWithAWarning(name: String, isHostName: Bool) throws {
    let request = try parse(#"{"network":{"hostname":"\#(name)"}}"#)
    #expect(request.hostname == .name(name))
    #expect(
      request.warnings
        == (isHostName
          ? []
          : [
            "Malformed host config detected, things may not behave as expected:",
            "Expecting a host name of RFC 1123 at network.hostname but instead got: \"\(name)\"",
          ]))
  }

  @Test func twoProblemsHaveOneHeading() throws {
    let request = try parse(#"{"network":{"hostname":"a_b","proxy":{"ip":"a","type":"x","port":1}}}"#)
    #expect(request.warnings.count == 3)
    #expect(request.warnings.filter { $0.hasPrefix("Malformed") }.count == 1)
  }

  @Test func aStrictProxyDropsWhatItDoesNotKnowAndHasANumericPort() throws {
    let request = try parse(
      #"{"network":{"proxy":{"type":"socks5","ip":"a.b","port":"1080.0","x":"y","local_ip":"1.2.3.4"}}}"#)
    #expect(request.warnings.isEmpty)
    #expect(
      request.proxy
        == .update(
          members: [
            HostConfigRequest.Member("type", "socks5"), HostConfigRequest.Member("ip", "a.b"),
            HostConfigRequest.Member("port", "1080"),
          ], dns: nil, noProxy: nil))
  }

  @Test func aPartialProxyIsTakenWithAWarningThatKeepsSecrets() throws {
    let request = try parse(#"{"network":{"proxy":{"password":"s3cret","port":5}}}"#)
    #expect(
      request.warnings.first == "Malformed host config detected, things may not behave as expected:")
    #expect(!request.warnings.contains { $0.contains("s3cret") })
    #expect(
      request.proxy
        == .update(
          members: [HostConfigRequest.Member("password", "s3cret"), HostConfigRequest.Member("port", "5")],
          dns: nil, noProxy: nil))
  }

  @Test(arguments: [
    #"{"ip":"a\nlocal_ip = 0.0.0.0;"}"#, #"{"ip":"a;b"}"#, #"{"password":12}"#, #"{"ip":{}}"#,
    #"{"a = b":"c"}"#, #"{"noProxy":["a\nb"]}"#,
  ])
  func whatWouldBreakTheFileIsRefused(proxy: String) throws {
    #expect(try refusal(#"{"network":{"proxy":\#(proxy)}}"#)?.hasPrefix(Self.first) == true)
  }
}

struct RedsocksFileTests {
  @Test func aFileOfOursIsReadAndWrittenByteForByte() {
    #expect(RedsocksFile(parsing: complete).text == complete)
  }

  @Test func aChangeOfOneMemberChangesOneLine() {
    let changed = RedsocksFile(parsing: complete)
      .applying([HostConfigRequest.Member("ip", "b.org")], dns: nil)
    #expect(changed.text == complete.replacing("ip = example.org", with: "ip = b.org"))
  }

  @Test func aFileOfOthersKeepsItsMembersInOrder() {
    let file = RedsocksFile(
      parsing: "# x\nredsocks{\n  ip=1.2.3.4\n\tport = 8123;\n type = http-connect;\n foo = a=b; }\n")
    #expect(file.members.map(\.name) == ["ip", "port", "type", "foo"])
    #expect(file.members.last?.value == "a=b")
  }

  @Test(arguments: [
    "a=b", "quote\"inside", "back\\slash", "\\\"", "ends with \\", "brace } and ; here", "ü", "\\\\\"\\",
  ])
  func aPasswordSurvivesWritingAndReading(password: String) {
    let file = RedsocksFile().applying(
      [
        HostConfigRequest.Member("type", "socks5"), HostConfigRequest.Member("ip", "h"),
        HostConfigRequest.Member("port", "1"), HostConfigRequest.Member("password", password),
      ], dns: nil)
    let read = RedsocksFile(parsing: file.text ?? "")
    #expect(read.members == file.members)
    #expect(read.text == file.text)
  }

  @Test func anAddressOfVersion6IsSplitAtItsLastColon() throws {
    let request = try parse(#"{"network":{"proxy":{"dns":"[2001:db8::1]:53"}}}"#)
    guard case .update(_, let dns, _)? = request.proxy else { return #expect(Bool(false)) }
    let file = RedsocksFile(parsing: complete).applying([], dns: dns)
    #expect(file.text?.contains("\tremote_ip = 2001:db8::1;\n\tremote_port = 53;\n") == true)
    #expect(RedsocksFile(parsing: file.text ?? "").dns == dns)
  }

  @Test(arguments: ["", "  \n", "redsocks { }", "redsocks {\n type = socks5;\n}", "redsocks {\n ip = x"])
  func aFileWithoutAValidBlockHasNoMembers(text: String) {
    #expect(RedsocksFile(parsing: text).members.isEmpty)
  }

  @Test func whatWasWrittenReadsBackTheSameForAnyMembers() {
    var generator = SystemRandomNumberGenerator()
    let characters = Array("ab=\"\\{} ;#,.é")
    for _ in 0..<2000 {
      func text() -> String {
        String((0..<Int.random(in: 1...12, using: &generator)).compactMap { _ in characters.randomElement() })
      }
      let file = RedsocksFile().applying(
        [
          HostConfigRequest.Member("type", "socks4"), HostConfigRequest.Member("ip", "h"),
          HostConfigRequest.Member("port", "1"), HostConfigRequest.Member("login", "x" + text() + "x"),
        ], dns: nil)
      #expect(RedsocksFile(parsing: file.text ?? "").text == file.text)
    }
  }
}
