import JSON
import Testing

@testable import Model

/// Cases are data: one more is one more element of a file in `Golden`; one more key of compositions is one
/// more file in `Golden/keys`.
@Suite struct `Golden payloads` {
  @Test(arguments: Fixture.goldenCases("create-examples.json") + Fixture.goldenFolder("keys"))
  func `a composition becomes its create call`(golden: GoldenCase) throws {
    let (service, notes) = try Fixture.service(golden.json)
    let request = try service.createRequest(containerIds: ["vpn": "ffff"], deviceName: "blue-sky")
    var expected = try Fixture.golden("base.json")
    expected.merge(golden.json["expect"]?.objectValue ?? [:])
    for (key, value) in expected.objectValue ?? [:] {
      #expect(Self.text(request[key], key) == Self.text(value, key), "\(key)")
    }
    #expect(Set(request.objectValue?.keys ?? []) == Set(expected.objectValue?.keys ?? []))

    let connections = JSONObject(service.networksToConnect.map { ($0.name, $0.endpoint) })
    #expect(Self.text(.object(connections)) == Self.text(golden.json["connect"] ?? [:]))
    #expect(notes == golden.json["notes"]?.stringList ?? [])
    #expect(service.dependencies.map(\.description) == golden.json["dependencies"]?.stringList ?? [])
    #expect(service.containerName == "web_88_99_c0ffee01")
  }

  @Test func `every key has a file of cases`() {
    let names = Fixture.folderNames("keys")
    #expect(Composition.supportedKeys.subtracting(names.map(Composition.camelCase)) == [])
    for name in names { #expect(!Fixture.goldenCases("keys/\(name).json").isEmpty, "\(name)") }
    #expect(Fixture.goldenCases("create-examples.json").count >= 9)
    #expect(Fixture.goldenCases("components.json").count >= 12)
    #expect(Fixture.goldenCases("verdicts.json").count >= 20)
  }

  @Test(arguments: Fixture.goldenCases("components.json"))
  func `a network or volume becomes its create call`(golden: GoldenCase) throws {
    let composition = golden.json["composition"] ?? [:]
    var release = TargetRelease(commit: "c0ffee01", id: 99)
    if let name = golden.json["network"]?.stringValue { release.networks = [name: composition] }
    if let name = golden.json["volume"]?.stringValue { release.volumes = [name: composition] }
    let target = TargetApp(
      appId: 1_234_567, uuid: Fixture.appUuid, name: "acme", source: "local", release: release)
    let (app, notes) = try App.target(from: target, context: Fixture.context, images: [:])
    // The network that every app has is another.
    let requests =
      app.networks.filter { $0.name != "default" }.map(\.createRequest) + app.volumes.map(\.createRequest)
    #expect(requests.map { Self.text($0) } == [Self.text(golden.json["expect"])])
    #expect(notes == golden.json["notes"]?.stringList ?? [])
  }

  @Test(arguments: Fixture.goldenCases("verdicts.json"))
  func `a change is noticed or not`(golden: GoldenCase) throws {
    let from = try Fixture.service(golden.json["from"] ?? [:]).service
    let target = golden.json["to"] ?? [:]
    let to = try Fixture.service(target).service
    let request = try from.createRequest(containerIds: ["vpn": "ffff"], deviceName: "blue-sky")
    let echo = EngineEcho(image: Fixture.image).inspect(request, of: from)
    let current = try Service(inspecting: echo)
    let differences = current.differences(
      to: to, containerIds: ["vpn": target["vpnContainer"]?.stringValue ?? "ffff"])
    let fields = differences.map { difference in
      difference.field.split(separator: Fixture.appUuid, omittingEmptySubsequences: false).joined(
        separator: "A")
    }
    #expect(fields == golden.json["different"]?.stringList)
    #expect(!differences.contains { "\($0)".contains("secret") })
  }

  /// The bytes that would be sent, after ordering of keys. Variables come from a map, too.
  private static func text(_ value: JSON?, _ key: String = "") -> String? {
    (key == "Env" ? value.map { JSON($0.stringList.sorted()) } : value)?.ordered.serialized()
  }
}

nonisolated extension JSON {
  /// With the members of every object in the order of their keys.
  fileprivate var ordered: JSON {
    switch self {
    case .array(let values): .array(values.map(\.ordered))
    case .object(let members):
      .object(JSONObject(members.sorted { $0.key < $1.key }.map { ($0.key, $0.value.ordered) }))
    default: self
    }
  }

  /// Lays `changes` over an object: `HostConfig` member by member, `X+` adds to `X`, `X-` takes
  /// away from it, anything else replaces.
  mutating func merge(_ changes: JSONObject) {
    var members = objectValue ?? [:]
    for (key, change) in changes {
      let name = String(key.dropLast())
      switch (key.last, change) {
      case ("+", .array(let more)): members[name] = .array((members[name]?.arrayValue ?? []) + more)
      case ("+", .object(let more)):
        var object = members[name]?.objectValue ?? [:]
        for (key, value) in more { object[key] = value }
        members[name] = .object(object)
      case ("-", .array(let less)):
        members[name] = .array((members[name]?.arrayValue ?? []).filter { !less.contains($0) })
      case (_, .object(let more)) where key == "HostConfig":
        var host = members[key] ?? [:]
        host.merge(more)
        members[key] = host
      default: members[key] = change
      }
    }
    self = .object(members)
  }
}
