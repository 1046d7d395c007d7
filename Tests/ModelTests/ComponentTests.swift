import JSON
import TestSupport
import Testing

@testable import Model

private nonisolated func app(
  networks: JSONObject = [:], volumes: JSONObject = [:], services: [TargetService] = []
) throws -> (app: App, notes: [String]) {
  let release = TargetRelease(commit: "c", id: 9, services: services, networks: networks, volumes: volumes)
  let target = TargetApp(
    appId: 1_234_567, uuid: Fixture.appUuid, name: "acme", source: "local", release: release)
  let (app, notes) = try App.target(from: target, context: Fixture.context, images: [:])
  return (app, notes)
}

@Suite struct `Networks` {
  /// What the engine shows of a network that it was told to create (target-state 4.4).
  private static func echo(_ network: Network) -> JSON {
    var shown = network.createRequest.objectValue ?? [:]
    shown["CheckDuplicate"] = nil
    shown["Id"] = "abc"
    if network.config.isConfigOnly { shown["Driver"] = .null }
    if network.config.ipam.options.isEmpty, case .object(var ipam) = shown["IPAM"] {
      ipam["Options"] = .null
      if network.config.ipam.config.isEmpty {
        ipam["Config"] = [["Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"]]
      } else if network.config.enableIPv6 {
        ipam["Config"] = .array((ipam["Config"]?.arrayValue ?? []) + [["Subnet": "172.19.0.0/16"]])
      }
      shown["IPAM"] = .object(ipam)
    }
    return .object(shown)
  }

  private static let compositions: [JSON] = [
    [:], ["driver": "macvlan", "internal": true], ["config_only": true], ["labels": ["io.resin.x": 1]],
    ["driver_opts": ["a": 1, "b": true]],
    ["ipam": ["config": [["subnet": "10.1.0.0/16", "gateway": "10.1.0.1"]]]],
    ["enable_ipv6": true, "ipam": ["config": [["subnet": "2001:db8::/64"]]]],
    [
      "ipam": [
        "driver": "x", "options": ["o": "1"],
        "config": [["subnet": "10.1.0.0/16", "ip_range": "10.1.1.0/24", "aux_addresses": ["h": "10.1.0.9"]]],
      ]
    ],
  ]

  @Test func `a network made from a target equals it and no other`() throws {
    for composition in Self.compositions {
      let target = try app(networks: ["n": composition]).app.networks[0]
      let current = try Network(inspecting: Self.echo(target))
      #expect(current.differences(to: target) == [], "\(composition)")
      #expect(current.name == "n" && current.appUuid == Fixture.appUuid && current.engineId == "abc")
      for other in Self.compositions where other != composition {
        #expect(try !current.differences(to: app(networks: ["n": other]).app.networks[0]).isEmpty, "\(other)")
      }
    }
  }

  @Test func `a gateway that the engine chose is no difference, one that was asked for is`() throws {
    func current(_ gateway: String) throws -> Network {
      var shown =
        Self.echo(try app(networks: ["n": Self.pool(gateway: "")]).app.networks[0]).objectValue ?? [:]
      shown["IPAM"] = [
        "Driver": "default", "Options": [:],
        "Config": [["Subnet": "10.9.0.0/24", "Gateway": .string(gateway)]],
      ]
      return try Network(inspecting: .object(shown))
    }
    let chosen = try current("10.9.0.1")
    #expect(try chosen.differences(to: app(networks: ["n": Self.pool(gateway: "")]).app.networks[0]) == [])
    #expect(
      try chosen.differences(to: app(networks: ["n": Self.pool(gateway: "10.9.0.1")]).app.networks[0]) == [])
    let other = try app(networks: ["n": Self.pool(gateway: "10.9.0.2")]).app.networks[0]
    #expect(try current("10.9.0.1").differences(to: other).map(\.field) == ["ipam.config"])
  }

  private static func pool(gateway: String) -> JSON {
    ["ipam": ["config": [["subnet": "10.9.0.0/24", "gateway": .string(gateway)]]]]
  }

  @Test func `a default network is there unless declared, and only a name when all share the host's`() throws
  {
    func service(_ mode: String) -> TargetService {
      TargetService(
        name: "s", serviceId: 1, imageId: 1, image: "i", composition: ["network_mode": .string(mode)])
    }
    #expect(try app().app.networks.map(\.config.isConfigOnly) == [true])
    #expect(try app(services: [service("host")]).app.networks.map(\.config.isConfigOnly) == [true])
    #expect(
      try app(services: [service("host"), service("none")]).app.networks.map(\.config.isConfigOnly) == [false]
    )
    let declared = try app(networks: ["default": ["internal": true]]).app.networks
    #expect(declared.map(\.name) == ["default"] && declared[0].config.isInternal)
  }

  private static let values: [String: [JSON]] = [
    "driver": ["bridge", "macvlan", ""], "driver_opts": [["a": 1, "b": true, "c": nil], [:]],
    "ipam": [
      [:], ["driver": "x", "options": ["o": 5]], ["config": []],
      ["config": [["subnet": "10.1.0.0/16"], ["subnet": "10.2.0.0/16", "gateway": "10.2.0.1"]]],
      ["config": [["subnet": "2001:db8::/64", "ip_range": "", "aux_addresses": ["h": "2001:db8::9"]]]],
    ],
    "enable_ipv6": [true, false, "1", 0], "internal": [true, "yes", nil], "config_only": [false, true],
    "labels": [["x": 1], ["io.resin.y": "1", "io.balena.y": "2"], ["io.balena.supervised": "no"]],
    "external": [true],
  ]

  @Test func `whatever the keys, a network made from a target equals it`() throws {
    var generator = SeededGenerator(seed: 6)
    for round in 0..<3000 {
      var composition = JSONObject()
      for (key, values) in Self.values.sorted(by: { $0.key < $1.key })
      where Bool.random(using: &generator) {
        composition[key] = values.randomElement(using: &generator)
      }
      let target = try app(networks: ["n": .object(composition)]).app.networks[0]
      let current = try Network(inspecting: Self.echo(target))
      try #require(current.differences(to: target) == [], "round \(round): \(composition)")
    }
  }

  @Test func `names say whose a network is`() throws {
    let old = try Network(inspecting: ["Name": "12_n_m", "Driver": "bridge"])
    #expect(old.appId == 12 && old.appUuid == nil && old.name == "n_m" && old.engineName == "12_n_m")
    let local = try Network(inspecting: ["Name": "1_n", "Labels": ["io.resin.app-id": "7"]])
    #expect(local.appId == 7 && local.appUuid == "1")
    #expect(throws: ModelError("Could not read app id from network: abc_n")) {
      try Network(inspecting: ["Name": "abc_n"])
    }
    for name in ["n", "_n", "xyz_n", "12_", ""] {
      #expect(throws: ModelError("Invalid network name: \(name)")) {
        try Network(inspecting: ["Name": .string(name)])
      }
    }
  }

  @Test func `an old network without app id always differs`() throws {
    let target = try app(networks: ["n": [:]]).app.networks[0]
    let current = try Network(inspecting: ["Name": "1234567_n", "Driver": "bridge"])
    #expect(current.differences(to: target).map(\.field) == ["labels.io.balena.app-id"])
  }

  @Test func `the agent's network is recognised and tells the API's address`() {
    let request = SupervisorNetwork.createRequest
    #expect(SupervisorNetwork.isCorrect(request) && SupervisorNetwork.gateway(request) == "10.114.104.1")
    #expect(!SupervisorNetwork.isCorrect([:]) && SupervisorNetwork.gateway([:]) == nil)
    #expect(SupervisorNetwork.gateway(["IPAM": ["Config": [["Subnet": "10.5.0.0/16"]]]]) == "10.5.0.1")
    #expect(SupervisorNetwork.gateway(["IPAM": ["Config": [["Subnet": "10.5.0.0/24"]]]]) == nil)
  }
}

@Suite struct `Volumes` {
  @Test func `a volume made from a target equals it and no other`() throws {
    let compositions: [JSON] = [
      [:], ["driver": "x"], ["driver_opts": ["a": 1]], ["labels": ["io.resin.a": "1"]],
      ["labels": ["b": "1"]],
    ]
    for composition in compositions {
      let target = try app(volumes: ["v": composition]).app.volumes[0]
      var shown = target.createRequest.objectValue ?? [:]
      shown["Options"] = shown["DriverOpts"] == [:] ? .null : shown["DriverOpts"]
      shown["DriverOpts"] = nil
      let current = try #require(Volume.reading(.object(shown)))
      #expect(current == target && current.differences(to: target) == [])
      for other in compositions where other != composition {
        #expect(try !current.differences(to: app(volumes: ["v": other]).app.volumes[0]).isEmpty)
      }
    }
  }

  @Test func `whatever the keys, a volume made from a target equals it`() throws {
    let values: [(String, [JSON])] = [
      ("driver", ["local", "x", "", nil]), ("driver_opts", [["a": 1, "b": nil], [:], 5]),
      ("labels", [["x": true], ["io.resin.y": "1", "io.balena.y": "2"], ["io.balena.app-uuid": "no"]]),
      ("external", [true]), ("name", ["other"]),
    ]
    var generator = SeededGenerator(seed: 8)
    for round in 0..<1000 {
      var composition = JSONObject()
      for (key, values) in values where Bool.random(using: &generator) {
        composition[key] = values.randomElement(using: &generator)
      }
      let (app, notes) = try app(volumes: ["v": .object(composition)])
      var shown = app.volumes[0].createRequest.objectValue ?? [:]
      shown["Options"] = shown["DriverOpts"]
      let current = try #require(Volume.reading(.object(shown)))
      try #require(current.differences(to: app.volumes[0]) == [], "round \(round): \(composition)")
      try #require(
        notes
          == ["external", "name"].filter { composition[$0] != nil }
          .map { "Ignoring unsupported field \($0) of volume v" })
    }
  }

  @Test(arguments: [
    "data", "x1_v", "my_1_vol", "1_", "_v", "01_v", "-1_v", "+1_v", "99999999999999999999_v", "",
  ])
  func `a foreign volume is none of ours`(name: String) {
    #expect(Volume.reading(["Name": .string(name)]) == nil)
  }

  @Test func `a volume that the engine made by itself has no labels and equals the plain one`() throws {
    let current = try #require(
      Volume.reading(["Name": "1234567_v", "Driver": "local", "Labels": nil, "Options": nil]))
    #expect(current.appUuid == nil)
    #expect(current.differences(to: try app(volumes: ["v": [:]]).app.volumes[0]) == [])
  }
}

@Suite struct `Containers read back` {
  private static func inspect(_ change: (inout JSON) -> Void) throws -> JSON {
    let service = try Fixture.service([:]).service
    let request = try service.createRequest(containerIds: [:], deviceName: "d")
    var inspect = EngineEcho(image: Fixture.image).inspect(request, of: service)
    change(&inspect)
    return inspect
  }

  @Test func `state and times`() throws {
    let inspect = try Self.inspect {
      $0.set(
        ["State"], ["Running": false, "Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "Error": "e"])
    }
    let container = try #require(try Service(inspecting: inspect).container)
    #expect(container.status == .installed && container.startedAt == nil && container.startError == "e")
    #expect(container.name == "web_88_99_c0ffee01")
    let exited = try Self.inspect {
      $0.set(["State"], ["Running": false, "Status": "exited", "ExitCode": 3])
    }
    #expect(try Service(inspecting: exited).container?.status.text == "exited")
    #expect(try Service(inspecting: exited).container?.exitCode == 3)
  }

  @Test(arguments: Fixture.goldenCases("read-back.json"))
  func `a field of the engine becomes one of the composition`(golden: GoldenCase) throws {
    let path = golden.json["path"]?.stringList ?? []
    let isMissing = golden.json["missing"] == true
    for value in isMissing ? [nil, .null] : [golden.json["value"]] {
      let inspect = try Self.inspect { $0.set(path[...], value) }
      let app = App(appId: 1, uuid: nil, name: "", services: [try Service(inspecting: inspect)])
      let field = golden.json["field"]?.stringValue ?? ""
      let shown = app.dump["services"]?.arrayValue?.first?["config"]?[field]
      #expect(shown ?? .null == golden.json["is"])
    }
  }

  @Test func `every field of the table has its cases`() {
    #expect(Fixture.goldenCases("read-back.json").count >= 100)
  }

  @Test func `what is not labelled is an error`() throws {
    let noApp = try Self.inspect { $0.set(["Config", "Labels", "io.balena.app-id"], nil) }
    #expect(throws: ModelError("Found a service with no appId! Container: web_88_99_c0ffee01")) {
      try Service(inspecting: noApp)
    }
    let noService = try Self.inspect { $0.set(["Config", "Labels", "io.balena.service-id"], "x") }
    #expect(throws: ModelError("Attempt to build Service class from container with malformed labels")) {
      try Service(inspecting: noService)
    }
    #expect(throws: ModelError.self) { try Service(inspecting: [:]) }
  }

  @Test func `labels under their old names count`() throws {
    let old = try Self.inspect { inspect in
      var labels = JSONObject()
      for (key, value) in inspect["Config"]?["Labels"]?.stringMap ?? [:] {
        labels[key.split(separator: "balena").joined(separator: "resin")] = .string(value)
      }
      inspect.set(["Config", "Labels"], .object(labels))
    }
    let target = try Fixture.service([:]).service
    #expect(try Service(inspecting: old).differences(to: target, containerIds: [:]) == [])
  }

  @Test(
    arguments: [
      ("web_1_2_abc", 1, 2, "abc"), ("web_1_2", 1, 2, nil), ("web_1_2_3_4", 1, 2, "3_4"),
      ("web_1_2_12345", 1, 2, "12345"),
      ("old_web_1_2_c", 1, 2, "c"), ("other_name_5_6_x", 5, 6, "x"),
    ] as [(String, Int, Int, String?)])
  func `a name tells image, release and commit`(name: String, image: Int, release: Int, commit: String?)
    throws
  {
    let parsed = try #require(ContainerName(parsing: name, serviceName: "web"))
    #expect(parsed.imageId == image && parsed.releaseId == release && parsed.commit == commit)
  }

  @Test(arguments: ["web", "web_1", "_1_2_c", "web_x_2_c", "web_1_", "1_2_c", ""])
  func `a name of another form is an error`(name: String) throws {
    let inspect = try Self.inspect { $0.set(["Name"], .string("/" + name)) }
    #expect(
      throws: ModelError(
        "Expected supervised container to have name '<serviceName>_<imageId>_<releaseId>_<commit>', got: \(name)"
      )
    ) { try Service(inspecting: inspect) }
  }

  @Test func `an alias that begins like the id is kept`() throws {
    let service = try Fixture.service(["composition": ["networks": ["n": ["aliases": ["01", "0123"]]]]])
      .service
    let request = try service.createRequest(containerIds: [:], deviceName: "d")
    let inspect = EngineEcho(image: Fixture.image).inspect(request, of: service)
    let current = try Service(inspecting: inspect)
    #expect(current.config.networks["\(Fixture.appUuid)_n"]?.aliases == ["01", "0123", "web"])
  }
}

@Suite struct `Apps` {
  private static func service(_ appId: Int, _ uuid: String?) -> Service {
    Service(
      appId: appId, appUuid: uuid, name: "s", serviceId: 1, imageId: 1, releaseId: 1, commit: nil,
      imageName: "i",
      config: ServiceConfig(image: "i"))
  }

  private static func volume(_ appId: Int, _ uuid: String?) -> Volume {
    Volume(appId: appId, appUuid: uuid, name: "v", config: VolumeConfig())
  }

  @Test func `objects that all know their app's uuid are grouped by it`() {
    let apps = App.groupingCurrent(
      services: [Self.service(0, "a"), Self.service(2, "b")], networks: [], volumes: [Self.volume(7, "a")],
      commits: [2: "c"])
    #expect(
      apps.map(\.appId) == [2, 7] && apps.map(\.uuid) == ["b", "a"] && apps.map(\.commit) == ["c", nil])
    #expect(apps[1].services.count == 1 && apps[1].volumes.count == 1)
  }

  @Test func `one object without uuid makes the number count`() {
    let apps = App.groupingCurrent(
      services: [Self.service(1, "a"), Self.service(1, "b")], networks: [], volumes: [Self.volume(1, nil)],
      commits: [:])
    #expect(apps.count == 1 && apps[0].services.count == 2 && apps[0].uuid == "a")
  }

  @Test func `the dump has no keys in it`() throws {
    let labels: JSON = [
      "labels": ["io.balena.features.supervisor-api": "1", "io.balena.features.balena-api": "1"]
    ]
    let service = try Fixture.service(labels).service
    #expect(service.config.environment["BALENA_API_KEY"] == "device-key")
    let app = App(appId: 1, uuid: "a", name: "n", services: [service])
    let text = app.dump.serialized()
    #expect(!text.contains("device-key") && !text.contains("secret") && text.contains("BALENA_API_URL"))
  }

  @Test func `services say which of them need an API key, also by their image`() throws {
    let services = [
      TargetService(
        name: "a", serviceId: 1, imageId: 1, image: "x", labels: ["io.resin.features.supervisor-api": "on"]),
      TargetService(name: "b", serviceId: 2, imageId: 2, image: "y"),
      TargetService(name: "c", serviceId: 3, imageId: 3, image: "z"),
    ]
    let target = TargetApp(
      appId: 1, uuid: "u", name: "n", source: "local",
      release: TargetRelease(commit: "c", id: 1, services: services))
    let image = ImageInfo(id: "sha256:1", labels: ["io.balena.features.supervisor-api": "1"])
    #expect(target.servicesWithSupervisorApi(images: ["y:latest": image]) == ["a", "b"])
    #expect(target.imageNames == ["x:latest", "y:latest", "z:latest"])
    #expect(throws: ModelError.self) { try App.target(from: target, context: Fixture.context, images: [:]) }
  }

  @Test func `of the host's app only services in the data store are run, and never the agent itself`() throws
  {
    func names(_ uuid: String, isHost: Bool) throws -> [String] {
      let services = [
        TargetService(name: "main", serviceId: 1, imageId: 1, image: "x"),
        TargetService(
          name: "root", serviceId: 2, imageId: 2, image: "x", labels: ["io.balena.image.store": "root"]),
        TargetService(
          name: "ext", serviceId: 3, imageId: 3, image: "x", labels: ["io.balena.image.class": "overlay"]),
      ]
      let target = TargetApp(
        appId: 1, uuid: uuid, name: "n", isHost: isHost, source: "local",
        release: TargetRelease(commit: "c", id: 1, services: services))
      let (app, _) = try App.target(from: target, context: Fixture.context, images: [:])
      return app.services.map(\.name)
    }
    #expect(try names("u", isHost: true) == ["main"])
    #expect(try names("u", isHost: false) == ["main", "root", "ext"])
    #expect(try names("52e35121417640b1b28a680504e4039b", isHost: false) == ["root", "ext"])
  }

  @Test func `labels say how a service is updated`() throws {
    func service(_ labels: JSON) throws -> Service { try Fixture.service(["labels": labels]).service }
    #expect(try service([:]).updateStrategy == .downloadThenKill)
    #expect(try service(["io.balena.update.strategy": "x"]).updateStrategy == .downloadThenKill)
    for strategy in UpdateStrategy.allCases {
      #expect(
        try service(["io.resin.update.strategy": .string(strategy.rawValue)]).updateStrategy == strategy)
    }
    #expect(try service(["io.balena.update.handover-timeout": "5000"]).handoverTimeout == .seconds(5))
    #expect(try service(["io.balena.update.handover-timeout": "-1"]).handoverTimeout == .seconds(60))
    #expect(try service(["io.balena.update.requires-reboot": "on"]).requiresReboot)
    #expect(try !service(["io.balena.update.requires-reboot": "yes"]).requiresReboot)
  }

  @Test func `a service says what it uses`() throws {
    let service = try Fixture.service([
      "composition": [
        "networks": ["a", "b"], "volumes": ["v:/v", ["type": "volume", "source": "w", "target": "/w"]],
      ]
    ]).service
    func network(_ name: String) -> Network {
      Network(appId: 1_234_567, appUuid: Fixture.appUuid, name: name, config: NetworkConfig())
    }
    func volume(_ name: String) -> Volume {
      Volume(appId: 1_234_567, appUuid: nil, name: name, config: VolumeConfig())
    }
    #expect(service.uses(network("a")) && service.uses(network("b")) && !service.uses(network("c")))
    #expect(service.uses(volume("v")) && service.uses(volume("w")) && !service.uses(volume("")))
    #expect(service.mainNetwork == "\(Fixture.appUuid)_a")
    #expect(try Fixture.service(["composition": ["network_mode": "host"]]).service.mainNetwork == nil)
  }

  @Test func `a device name with a line break is refused at creation`() throws {
    let service = try Fixture.service([:]).service
    let text =
      "The device name contains a newline, which is unsupported by balena. Please fix the device name"
    #expect(throws: ModelError(text)) {
      try service.createRequest(containerIds: [:], deviceName: "a\r\nb")
    }
  }

  @Test func `a shared network needs the other service's container`() throws {
    let service = try Fixture.service(["composition": ["network_mode": "service:vpn"]]).service
    #expect(throws: ModelError("No container for network_mode: 'service: vpn'")) {
      try service.createRequest(containerIds: [:], deviceName: "d")
    }
  }

  @Test(arguments: Fixture.goldenCases("unmappable.json"))
  func `what cannot be understood is an error that names service and key`(golden: GoldenCase) throws {
    let text = try #require(golden.json["error"]?.stringValue)
    #expect(throws: ModelError(text)) { try Fixture.service(golden.json) }
  }

  @Test func `an app without an id cannot be mapped`() {
    let service = TargetService(name: "web", serviceId: 1, imageId: 1, image: "web")
    let app = TargetApp(
      appId: 0, uuid: "u", name: "n", source: "local",
      release: TargetRelease(commit: "c", id: 1, services: [service]))
    #expect(throws: ModelError("No app id for service")) {
      try App.target(from: app, context: Fixture.context, images: [:])
    }
  }

  @Test func `an app that cannot be mapped is rejected and still there`() throws {
    let stored = StoredTargetApp(
      appId: 5, uuid: "u", name: "n", appClass: "fleet", isHost: false, isRejected: false, source: "local",
      commit: "c", releaseId: 1, services: "[", networks: "{}", volumes: "{}")
    let error = try #require(#expect(throws: ModelError.self) { try TargetApp(stored: stored) })
    let target = TargetApp(unreadable: stored, because: error)
    #expect(target.appId == 5 && target.uuid == "u" && target.isRejected && target.release == nil)
    #expect(throws: error) { try App.target(from: target, context: Fixture.context, images: [:]) }
    let app = App.unmapped(target, because: error)
    #expect(app.appId == 5 && app.isRejected && app.problem == error.message && app.services.isEmpty)
  }
}
