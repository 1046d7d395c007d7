import JSON
import Testing

@testable import Model

@Suite struct `Contracts` {
  private nonisolated static let facts = ContractFacts(
    agentVersion: "19.0.5", deviceType: "raspberrypi4-64", architecture: "aarch64", l4tVersion: "32.4.0",
    operatingSystem: .init(slug: "balena-os", version: "6.1.2+rev1"),
    kernel: .init(slug: "linux", version: "6.1.0"))

  private static func isMet(_ requires: JSON, by facts: ContractFacts = facts) throws -> Bool {
    try Contract(parsing: ["type": "sw.container", "requires": requires]).isMet(by: facts.all)
  }

  @Test(
    arguments: [
      [], [["type": "sw.supervisor"]], [["type": "sw.supervisor", "version": ">=19"]],
      [["type": "sw.supervisor", "slug": ""]], [["type": "sw.supervisor", "slug": nil, "version": nil]],
      [["type": "hw.device-type", "slug": "raspberrypi4-64"]], [["type": "hw.device-type"]],
      [["type": "arch.sw", "slug": "aarch64", "title": "unused"]],
      [["type": "sw.l4t", "version": "~32.4"]],
      [["type": "sw.os", "slug": "balena-os", "version": ">=6.1.2"]],
      [["type": "sw.os", "version": "6.1.2"]],
      [["type": "sw.kernel", "slug": "linux", "version": "^6.1"]],
      [["or": [["type": "arch.sw", "slug": "amd64"], ["type": "arch.sw", "slug": "aarch64"]]]], [["or": []]],
      [["type": "arch.sw", "slug": "aarch64", "or": [["type": "sw.os", "slug": "x"]]]],
      [["type": "sw.supervisor"], ["type": "sw.kernel"]], [["type": "sw.supervisor", "version": ""]],
    ] as [JSON])
  func `what the device has is met`(requires: JSON) throws {
    #expect(try Self.isMet(requires))
  }

  @Test(
    arguments: [
      [["type": "sw.supervisor", "version": ">19.0.5"]], [["type": "sw.supervisor", "slug": "x"]],
      [["type": "hw.device-type", "slug": "intel-nuc"]],
      [["type": "hw.device-type", "version": "1.0.0"]], [["type": "arch.sw", "slug": "amd64"]],
      [["type": "sw.os", "slug": "ubuntu"]], [["type": "sw.os", "version": "latest"]],
      [["type": "sw.kernel", "slug": "Linux"]], [["type": "sw.l4t", "version": ">=33"]],
      [["type": "arch.sw", "slug": "aarch64", "data": [:]]],
      [["or": [["type": "arch.sw", "slug": "amd64"], ["type": "sw.os", "slug": "x"]]]],
      [["type": "sw.supervisor"], ["type": "arch.sw", "slug": "x"]],
    ] as [JSON])
  func `what it has not is unmet`(requires: JSON) throws {
    #expect(try !Self.isMet(requires))
  }

  @Test func `a fact that is not known meets nothing`() throws {
    let bare = ContractFacts(agentVersion: "19.0.5")
    for type in ["sw.l4t", "sw.os", "sw.kernel"] {
      #expect(try !Self.isMet([["type": .string(type)]], by: bare))
    }
    #expect(try Self.isMet([["type": "hw.device-type", "slug": "unknown"]], by: bare))
    #expect(ContractFacts.Software(slug: "linux", version: nil) == nil)
    #expect(ContractFacts.Software(slug: nil, version: "1") == nil)
  }

  @Test func `a version that is none is compared as text`() throws {
    var facts = Self.facts
    facts.operatingSystem = .init(slug: "debian", version: "12 (bookworm)")
    #expect(try Self.isMet([["type": "sw.os", "version": "12 (bookworm)"]], by: facts))
    #expect(try !Self.isMet([["type": "sw.os", "version": "12"]], by: facts))
    #expect(try !Self.isMet([["type": "sw.os", "version": "*"]], by: facts))
  }

  @Test(
    arguments: [
      ([:], nil), (["requires": nil, "slug": nil, "type": nil], nil), (["slug": "x", "other": 5], nil),
      ([], "Expecting object at contract but instead got: []"),
      (["type": 5], "Expecting string at type but instead got: 5"),
      (["slug": 5], "Expecting string at slug but instead got: 5"),
      (["requires": [:]], "Expecting list at requires but instead got: {}"),
      (["requires": ["x"]], "Expecting object at requires.0 but instead got: \"x\""),
      (["requires": [[:]]], "Expecting string at requires.0.type but instead got: undefined"),
      (["requires": [["not": []]]], "Expecting string at requires.0.type but instead got: undefined"),
      (["requires": [["type": 1]]], "Expecting string at requires.0.type but instead got: 1"),
      (["requires": [["type": "sw.application"]]], "sw.application is not a valid contract requirement type"),
      (
        ["requires": [["type": "sw.os"], ["type": "hw.led"]]],
        "hw.led is not a valid contract requirement type"
      ),
      (["requires": [["or": [["type": "x"]]]]], "x is not a valid contract requirement type"),
      (["requires": [["or": 1]]], "Expecting list at requires.0.or but instead got: 1"),
      (["requires": [["or": [5]]]], "Expecting object at requires.0.or.0 but instead got: 5"),
      (
        ["requires": [["type": "sw.os", "slug": 5]]], "Expecting string at requires.0.slug but instead got: 5"
      ),
      (
        ["requires": [["type": "sw.os", "version": 5]]],
        "Expecting string at requires.0.version but instead got: 5"
      ),
      (
        ["requires": [["type": "sw.os", "data": []]]],
        "Expecting object at requires.0.data but instead got: []"
      ),
    ] as [(JSON, String?)])
  func `the form of a contract is checked`(contract: JSON, message: String?) throws {
    if let message {
      #expect(throws: ModelError(message)) { try Contract(parsing: contract) }
    } else {
      #expect(try Contract(parsing: contract).isMet(by: []))
    }
  }
}

@Suite struct `Contracts of a target` {
  private static let facts = ContractFacts(agentVersion: "19.0.5", architecture: "aarch64")
  private static let unmet: JSON = ["requires": [["type": "arch.sw", "slug": "amd64"]]]
  private static let met: JSON = ["requires": [["type": "arch.sw", "slug": "aarch64"]]]

  private static func service(_ name: String, _ contract: JSON?, labels: [String: String] = [:])
    -> TargetService
  {
    TargetService(
      name: name, serviceId: 1, imageId: 1, image: "i", labels: labels, contract: contract,
      composition: ["labels": ["io.balena.features.optional": "1"]])
  }

  private static func app(_ id: Int, _ services: [TargetService]) -> TargetApp {
    TargetApp(
      appId: id, uuid: "u\(id)", name: "app\(id)", isRejected: true, source: "local",
      release: TargetRelease(commit: "c", id: 1, services: services))
  }

  private static let optional = ["io.balena.features.optional": "true"]

  @Test func `a target whose contracts are met is taken as it is, and no longer rejected`() throws {
    var state = TargetState(
      deviceName: "d", apps: [Self.app(1, [Self.service("a", Self.met), Self.service("b", nil)])])
    #expect(try state.applyContracts(facts: Self.facts) == ContractReport())
    #expect(state.apps.map(\.isRejected) == [false])
    #expect(state.apps[0].release?.services.map(\.name) == ["a", "b"])
  }

  @Test func `optional services whose contract is not met go`() throws {
    var state = TargetState(
      deviceName: "d",
      apps: [
        Self.app(
          1,
          [
            Self.service("a", Self.unmet, labels: Self.optional), Self.service("b", Self.met),
            Self.service("c", Self.unmet, labels: Self.optional),
          ])
      ])
    let report = try state.applyContracts(facts: Self.facts)
    #expect(report.removals == ["Not running containers because of contract violations: a. c"])
    #expect(report.rejection == nil)
    #expect(state.apps[0].release?.services.map(\.name) == ["b"] && !state.apps[0].isRejected)
  }

  @Test func `an app with another service whose contract is not met is rejected, whole and alone`() throws {
    let mixed = [Self.service("a", Self.unmet, labels: Self.optional), Self.service("b", Self.unmet)]
    var state = TargetState(
      deviceName: "d",
      apps: [Self.app(1, mixed), Self.app(2, [Self.service("x", nil)]), Self.app(3, [mixed[1]])])
    let report = try state.applyContracts(facts: Self.facts)
    #expect(
      report.rejection == """
        Some releases were rejected due to having unmet requirements:
          app1: Services with unmet requirements: a, b
          app3: Services with unmet requirements: b
        """)
    #expect(report.removals == [])
    #expect(state.apps.map(\.isRejected) == [true, false, true])
    #expect(state.apps[0].release?.services.map(\.name) == ["a", "b"])
  }

  @Test func `a malformed contract is an error of the document, of an optional service too`() {
    var state = TargetState(
      deviceName: "d",
      apps: [
        Self.app(1, [Self.service("a", Self.unmet)]),
        Self.app(2, [Self.service("led", ["requires": [["type": "hw.led"]]], labels: Self.optional)]),
      ])
    #expect(
      throws: TargetStateError(
        .invalid,
        "The contract for service led failed validation, with error: hw.led is not a valid contract requirement type"
      )
    ) { try state.applyContracts(facts: Self.facts) }
  }

  @Test func `what was rejected is so after a restart, too`() throws {
    var app = Self.app(1, [Self.service("b", Self.unmet)])
    app.isRejected = true
    #expect(try TargetApp(stored: app.stored) == app)
  }
}
