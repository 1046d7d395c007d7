import EventLoop
import Glibc
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("Rules of the firewall")
struct FirewallRulesTests {
  nonisolated private static func fresh(
    port: String = guarded(), multicast: String = common(icmp: "icmp"), end: String, supervisor: String = "",
    jump: String = "-I INPUT 1 -j BALENA-FIREWALL\n"
  ) -> String {
    """
    *filter
    :BALENA-FIREWALL - [0:0]
    :BALENA-SUPERVISOR - [0:0]
    \(jump)-A BALENA-FIREWALL -m state --state ESTABLISHED,RELATED -j ACCEPT
    -A BALENA-FIREWALL -m addrtype --src-type LOCAL -j ACCEPT
    \(port)
    \(multicast)
    \(end)
    \(supervisor)COMMIT

    """
  }

  nonisolated private static func guarded() -> String {
    """
    -A BALENA-FIREWALL -p tcp --dport 48484 -i resin-vpn -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -i tun0 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -i docker0 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -i lo -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -i supervisor0 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -j REJECT
    """
  }

  nonisolated private static let open = """
    -A BALENA-FIREWALL -p tcp --dport 48484 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48484 -j REJECT
    """

  nonisolated private static let overridden = """
    -A BALENA-FIREWALL -p tcp --dport 48485 -i supervisor0 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 48485 -j REJECT
    """

  nonisolated private static func common(icmp: String) -> String {
    """
    -A BALENA-FIREWALL -p tcp --dport 22222 -j ACCEPT
    -A BALENA-FIREWALL -p tcp --dport 2375 -j ACCEPT
    -A BALENA-FIREWALL -m addrtype --dst-type MULTICAST -j ACCEPT
    -A BALENA-FIREWALL -p \(icmp) -j ACCEPT
    -A BALENA-FIREWALL -p udp --dport 53 -i balena0 -j ACCEPT
    -A BALENA-FIREWALL -p udp --dport 53 -i br+ -j ACCEPT
    """
  }

  nonisolated private static let off = "-A BALENA-FIREWALL -j RETURN\n-A BALENA-FIREWALL -j REJECT"
  nonisolated private static let on = "-A BALENA-FIREWALL -j REJECT"
  nonisolated private static let supervisor = """
    -A BALENA-SUPERVISOR -p tcp --dport 48484 -i resin-vpn -j ACCEPT
    -A BALENA-SUPERVISOR -p tcp --dport 48484 -j REJECT

    """

  private func rules(
    _ mode: FirewallRules.Mode, override: Int? = nil, local: Bool = false, hostNetwork: Bool = false
  ) -> FirewallRules {
    FirewallRules(
      mode: mode, port: 48484, portOverride: override, isLocalMode: local, usesHostNetwork: hostNetwork)
  }

  @Test("off guards the API's port alone")
  func offMode() {
    #expect(rules(.off).payload(.v4, present: .init()) == Self.fresh(end: Self.off))
    #expect(rules(.off, hostNetwork: true).payload(.v4, present: .init()) == Self.fresh(end: Self.off))
  }

  @Test("on refuses all else")
  func onMode() {
    #expect(rules(.on).payload(.v4, present: .init()) == Self.fresh(end: Self.on))
  }

  @Test("auto is on with a service on the host's network, and else off")
  func autoMode() {
    #expect(rules(.auto).payload(.v4, present: .init()) == Self.fresh(end: Self.off))
    #expect(rules(.auto, hostNetwork: true).payload(.v4, present: .init()) == Self.fresh(end: Self.on))
  }

  @Test("in local mode everybody reaches the API")
  func localMode() {
    #expect(
      rules(.off, local: true).payload(.v4, present: .init()) == Self.fresh(port: Self.open, end: Self.off))
  }

  @Test("an overridden port is the agent's network's, and the configured one that of whoever forwards it")
  func overriddenPort() {
    let rules = rules(.off, override: 48485)
    #expect(
      rules.payload(.v4, present: .init())
        == Self.fresh(port: Self.overridden, end: Self.off, supervisor: Self.supervisor))
    #expect(
      self.rules(.on, override: 48485, local: true).payload(.v4, present: .init())
        == Self.fresh(port: Self.overridden, end: Self.on))
  }

  @Test("IPv6 has its own ICMP, and no rules of the engine's chain")
  func ipv6() {
    var present = FirewallRules.Present()
    present.hasEngineChain = true
    let icmp = Self.common(icmp: "ipv6-icmp")
    #expect(rules(.on).payload(.v6, present: present) == Self.fresh(multicast: icmp, end: Self.on))
    #expect(
      rules(.off, override: 48485).payload(.v6, present: present)
        == Self.fresh(port: Self.overridden, multicast: icmp, end: Self.off))
  }

  @Test("jumps are added where they are missing, and the engine's chain is never declared")
  func jumps() {
    let before = """
      *filter
      :INPUT ACCEPT [0:0]
      :DOCKER-USER - [0:0]
      -A INPUT -j BALENA-FIREWALL
      -A DOCKER-USER -j RETURN
      COMMIT
      """
    let present = FirewallRules.Present(parsing: before)
    #expect(
      rules(.off).payload(.v4, present: present)
        == Self.fresh(end: Self.off, supervisor: "-I DOCKER-USER 1 -j BALENA-SUPERVISOR\n", jump: ""))
    let after = FirewallRules.Present(
      parsing: before.replacing("-A DOCKER-USER", with: "-A DOCKER-USER -j BALENA-SUPERVISOR\n-A DOCKER-USER")
    )
    #expect(rules(.off).payload(.v4, present: after) == Self.fresh(end: Self.off, jump: ""))
    // A rule that only looks like the jump is somebody else's.
    let other = FirewallRules.Present(parsing: "-A INPUT -s 192.0.2.1/32 -j BALENA-FIREWALL")
    #expect(rules(.off).payload(.v4, present: other) == Self.fresh(end: Self.off))
  }
}

/// Directories with tools that note how they are called, and fail while a file `broken` is there.
private final class Tools {
  let scratch = Scratch()
  var reports: [String] = []

  func firewall(hasIPv6: Bool = true, retryDelay: Duration = .seconds(600)) -> Firewall {
    LoopDriver.start()
    for name in ["iptables", "ip6tables"] {
      put("\(name)-save", "exit 0")
      put(
        "\(name)-restore",
        """
        echo x >>\(scratch.file("calls-\(name)"))
        while [ -e \(scratch.file("hanging")) ]; do sleep 0.02; done
        [ -e \(scratch.file("broken-\(name)")) ] || exit 0
        echo no such table >&2
        exit 1
        """)
    }
    if hasIPv6 { write("", to: scratch.file("if_inet6")) }
    return Firewall(
      logger: quiet,
      places: .init(
        directories: [scratch.path], ipv6: scratch.file("if_inet6"),
        ipv6Tables: scratch.file("ip6_tables_names"), modprobe: scratch.file("modprobe"), hostRoot: "/host"),
      firstRetryDelay: retryDelay
    ) { [self] in reports.append($0) }
  }

  func put(_ name: String, _ script: String) {
    write("#!/bin/sh\n\(script)\n", to: scratch.file(name))
    chmod(scratch.file(name), 0o755)
  }

  func set(_ name: String, _ isThere: Bool = true) {
    if isThere { write("", to: scratch.file(name)) } else { unlink(scratch.file(name)) }
  }

  func calls(_ name: String) -> Int { contents(of: scratch.file("calls-\(name)")).count / 2 }
}

@Suite("Applying the firewall")
struct FirewallTests {
  private let tools = Tools()
  private let rules = FirewallRules(mode: .on, port: 1, isLocalMode: false)

  @Test("each family is changed once, and not again while the rules stay the same")
  func once() async {
    let firewall = tools.firewall()
    firewall.apply(rules)
    #expect(await eventually { tools.calls("ip6tables") == 1 })
    firewall.apply(rules)
    var other = rules
    other.mode = .off
    firewall.apply(other)
    #expect(await eventually { tools.calls("ip6tables") == 2 })
    #expect(tools.calls("iptables") == 2 && tools.reports.isEmpty)
  }

  @Test("a failure is told once and tried again until it succeeds; the other family does not wait")
  func failure() async {
    tools.set("broken-iptables")
    let firewall = tools.firewall(retryDelay: .milliseconds(10))
    firewall.apply(rules)
    #expect(await eventually { tools.calls("iptables") >= 3 })
    #expect(
      tools.reports == [
        "Firewall mode not applied due to error: \(tools.scratch.file("iptables-restore")): no such table"
      ])
    tools.set("broken-iptables", false)
    let calls = tools.calls("iptables")
    #expect(await eventually { tools.calls("iptables") > calls })
    #expect(tools.calls("ip6tables") == 1 && tools.reports.count == 1)
  }

  @Test("a kernel without IPv6 is no failure, rules of IPv6 that it refuses are one")
  func ipv6() async {
    tools.set("broken-ip6tables")
    let without = tools.firewall(hasIPv6: false, retryDelay: .milliseconds(10))
    without.apply(rules)
    #expect(await eventually { tools.calls("iptables") == 1 })
    try? await EventLoop.shared.sleep(for: .milliseconds(100))
    #expect(tools.calls("ip6tables") == 0 && tools.reports.isEmpty)
    let with = tools.firewall(retryDelay: .milliseconds(10))
    with.apply(rules)
    #expect(await eventually { tools.calls("ip6tables") >= 2 })
    #expect(tools.reports.count == 1)
  }

  @Test("the module of IPv6's tables is loaded before the first rules of it, once, from the host's modules")
  func module() async {
    tools.put("modprobe", "echo \"$@\" >>\(tools.scratch.file("modprobe-calls")); exit 1")
    tools.set("broken-ip6tables")
    let firewall = tools.firewall(retryDelay: .milliseconds(10))
    firewall.apply(rules)
    #expect(await eventually { tools.calls("ip6tables") >= 3 })
    #expect(text(of: tools.scratch.file("modprobe-calls")) == "-d /host ip6_tables\n")
    #expect(!tools.reports.contains { $0.contains("modprobe") })
  }

  @Test("a module that is there, or that nobody can load, is no fault", arguments: [true, false])
  func noModule(_ isThere: Bool) async {
    if isThere {
      tools.set("ip6_tables_names")
      tools.put("modprobe", "echo \"$@\" >>\(tools.scratch.file("modprobe-calls"))")
    }
    let firewall = tools.firewall()
    firewall.apply(rules)
    #expect(await eventually { tools.calls("ip6tables") == 1 })
    #expect(tools.reports.isEmpty && access(tools.scratch.file("modprobe-calls"), F_OK) != 0)
  }

  @Test("the first try is waited for, whether it succeeds or not, and no longer than the limit")
  func firstTry() async {
    tools.set("hanging")
    let firewall = tools.firewall()
    firewall.apply(rules)
    await firewall.firstTry(within: .milliseconds(50))
    #expect(tools.reports.isEmpty)
    tools.set("broken-iptables")
    tools.set("hanging", false)
    await firewall.firstTry(within: .seconds(600))
    #expect(tools.reports.count == 1)
    await firewall.firstTry(within: .seconds(600))
    withExtendedLifetime(firewall) {}
  }
}
