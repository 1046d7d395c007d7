import JSON
import TestSupport
import Testing

@testable import Model

@Suite struct `Target state documents` {
  private static let uuid = "0123"

  /// A valid document with the value at `path` replaced, or removed for nil.
  private static func document(_ path: [String] = [], _ value: JSON? = nil) throws -> JSON {
    var document = try JSON(
      parsing: """
        {"0123": {"name": "blue-sky", "config": {"BALENA_HOST_CONFIG_gpu_mem": "16"}, "apps": {"a1b2": {"id": 1,
        "name": "acme", "class": "fleet", "releases": {"c0ffee01": {"id": "99", "services": {"web": {"id": 77,
        "image_id": 88, "image": "r.io/web", "environment": {"A": "1"}, "labels": {"l": "1"}, "extra": [1],
        "composition": {"restart": "always"}}}, "volumes": {"data": {}}, "networks": {}}, "later": {"id": 1}}}}}}
        """)
    if !path.isEmpty { document.set(path[...], value) }
    return document
  }

  private static let app = ["0123", "apps", "a1b2"]
  private static let release = app + ["releases", "c0ffee01"]
  private static let service = release + ["services", "web"]

  @Test func `a document is read`() throws {
    let state = try TargetStateDocument.parse(v3: Self.document(), deviceUuid: Self.uuid, source: "local")
    let app = try #require(state.apps.first)
    let release = try #require(app.release)
    let service = try #require(release.services.first)
    #expect(state.deviceName == "blue-sky" && state.config == ["BALENA_HOST_CONFIG_gpu_mem": "16"])
    #expect(app.uuid == "a1b2" && app.appId == 1 && app.source == "local" && !app.isHost)
    #expect(release.commit == "c0ffee01" && release.id == 99 && release.volumes.keys == ["data"])
    #expect(service.image == "r.io/web:latest" && service.isRunning && service.otherFields == ["extra": [1]])
  }

  @Test func `defaults stand for what is missing or null`() throws {
    for (path, value) in [
      (Self.app + ["class"], nil), (Self.app + ["class"], .null), (Self.app + ["releases"], nil),
      (Self.release + ["services"], .null), (Self.service + ["running"], .null),
    ] as [([String], JSON?)] {
      let document = try Self.document(path, value)
      let state = try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
      #expect(state.apps.first?.appClass == .fleet)
    }
  }

  @Test func `all errors are told at once, with their places`() throws {
    var document = try Self.document(Self.service + ["id"], "x1")
    document.set(["0123", "config", "A"], 1)
    document.set(["0123", "config", "0bad"], "")
    document.set(Self.app + ["name"], nil)
    let error = #expect(throws: TargetStateError.self) {
      try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
    }
    #expect(error?.kind == .invalid)
    #expect(
      error?.message == """
        Invalid target state.
        Expecting string at 0123.config.A but instead got: 1
        Expecting ConfigVarName at 0123.config.0bad but instead got: "0bad" (needs to start with a letter and may only contain alphanumeric characters plus '_' or ':')
        Expecting ShortString at 0123.apps.a1b2.name but instead got: undefined
        Expecting NumericId at 0123.apps.a1b2.releases.c0ffee01.services.web.id but instead got: "x1" (must be be an positive integer)
        """)
  }

  @Test(arguments: Fixture.goldenCases("rejections.json"))
  func `a broken rule rejects the document, and the answer says where`(golden: GoldenCase) throws {
    let path = golden.json["path"]?.stringList ?? []
    let document = try Self.document(path, golden.json["value"])
    let error = #expect(throws: TargetStateError.self) {
      try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
    }
    #expect(error?.kind == .invalid)
    let lines = error?.message.split(separator: "\nExpecting ").map(String.init) ?? []
    #expect(lines.first == "Invalid target state.")
    #expect(lines.dropFirst().map { "Expecting " + $0 } == golden.json["errors"]?.stringList)
  }

  @Test func `services that wait for another in order are taken, and other releases are not looked into`()
    throws
  {
    var document = try Self.document(Self.service + ["composition", "depends_on"], ["gone", "db"])
    let circle: JSON = [
      "id": 1, "image_id": 1, "image": "i", "environment": [:], "labels": [:],
      "composition": ["depends_on": ["x"]],
    ]
    document.set(Self.app + ["releases", "later", "services"], ["x": circle])
    #expect(throws: Never.self) {
      try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
    }
  }

  @Test(arguments: ["5", " 5 ", "+5", "5.0", "005"])
  func `an id may be a string that spells one`(text: String) {
    #expect(DocumentName.numericId(.string(text)) == 5)
  }

  @Test(arguments: ["", "1e3", "0x10", "12abc", "-1", "1.5", " ", "99999999999999999999"])
  func `an id is plain decimal`(text: String) {
    #expect(DocumentName.numericId(.string(text)) == nil)
  }

  @Test func `a document without this device is another failure`() throws {
    #expect(
      throws: TargetStateError(.failed, "Expected target state for local device with uuid 'other'.")
    ) {
      try TargetStateDocument.parse(v3: Self.document(), deviceUuid: "other", source: "local")
    }
    #expect(throws: TargetStateError.self) {
      try TargetStateDocument.parse(v3: [:], deviceUuid: Self.uuid, source: "local")
    }
  }

  @Test(arguments: [[], "x", 5, nil, true] as [JSON])
  func `a document that is no object is refused`(document: JSON) {
    let error = #expect(throws: TargetStateError.self) {
      try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
    }
    #expect(error?.kind == .invalid)
    #expect(
      error?.message
        == "Invalid target state.\nExpecting TargetState at  but instead got: \(document.serialized())")
  }

  @Test func `a bad image reference is another failure`() throws {
    let document = try Self.document(Self.service + ["image"], "a b")
    #expect(throws: TargetStateError(.failed, "Could not parse the image: a b")) {
      try TargetStateDocument.parse(v3: document, deviceUuid: Self.uuid, source: "local")
    }
  }

  @Test func `an app comes back from the database as it went in`() throws {
    let state = try TargetStateDocument.parse(v3: Self.document(), deviceUuid: Self.uuid, source: "local")
    let app = try #require(state.apps.first)
    #expect(try TargetApp(stored: app.stored) == app)
    #expect(app.storedServices.arrayValue?.first?["serviceId"] == 77)
    let exported: JSON = [
      "0123": ["name": "x", "config": [:], "apps": ["a1b2": app.exported]]
    ]
    #expect(
      try TargetStateDocument.parse(v3: exported, deviceUuid: Self.uuid, source: "local").apps == [app])
  }

  @Test func `a row that cannot be read is an error`() throws {
    var row = try #require(
      TargetStateDocument.parse(v3: Self.document(), deviceUuid: Self.uuid, source: "local").apps.first
    ).stored
    row.services = "[{"
    #expect(throws: ModelError.self) { try TargetApp(stored: row) }
    row.services = "[{}]"
    #expect(throws: ModelError.self) { try TargetApp(stored: row) }
  }

  @Test func `random damage never crashes`() throws {
    var generator = SeededGenerator(seed: 5)
    let bytes = try Self.document().bytes()
    for _ in 0..<3000 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        damaged[Int.random(in: bytes.indices, using: &generator)] =
          Array("0123456789{}[]\",:ntf".utf8).randomElement(using: &generator) ?? 0
      }
      guard let document = try? JSON(parsing: damaged) else { continue }
      guard let state = try? TargetStateDocument.parse(v3: document, deviceUuid: "0123", source: "local")
      else { continue }
      for app in state.apps { _ = try? App.target(from: app, context: Fixture.context, images: [:]) }
    }
  }
}

@Suite struct `Documents of version 2` {
  private static let body = """
    {"local": {"name": "dev", "config": {"A": "1"}, "apps": {"1": {"name": "localapp", "commit": "10ca12e1ea5e",
    "releaseId": "1", "services": {"7": {"serviceId": 1, "serviceName": "web", "imageId": 3,
    "image": "local_image_web:latest", "running": true, "environment": {}, "labels": {}, "contract": {},
    "ports": ["80:80"], "privileged": true}}, "volumes": {"v": {}}, "networks": {}}}, "more": 1}, "force": false}
    """

  @Test func `a body is converted and read`() throws {
    let document = try TargetStateDocument.convertV2(
      JSON(parsing: Self.body), deviceUuid: "0123", deviceName: "stored")
    let state = try TargetStateDocument.parse(v3: document, deviceUuid: "0123", source: "local")
    let app = try #require(state.apps.first)
    let service = try #require(app.release?.services.first)
    #expect(state.deviceName == "dev" && state.config == ["A": "1"])
    #expect(app.uuid == "1" && app.appId == 1 && app.appClass == .fleet && app.release?.id == 1)
    #expect(service.serviceId == 7 && service.imageId == 3 && service.name == "web")
    #expect(service.composition == ["ports": ["80:80"], "privileged": true])
  }

  @Test func `an empty body runs nothing and keeps the name`() throws {
    let document = try TargetStateDocument.convertV2([:], deviceUuid: "0123", deviceName: "stored")
    #expect(document == ["0123": ["name": "stored", "config": [:], "apps": [:]]])
  }

  @Test func `an app without commit has no release`() throws {
    let document = try TargetStateDocument.convertV2(
      ["local": ["apps": ["5": ["name": "x", "services": .null]]]], deviceUuid: "0123", deviceName: "d")
    let state = try TargetStateDocument.parse(v3: document, deviceUuid: "0123", source: "local")
    #expect(state.apps.first?.appId == 5 && state.apps.first?.release == nil)
  }

  @Test(
    arguments: [
      [1], ["local": 1], ["local": ["apps": []]], ["local": ["apps": ["1": .null]]],
      ["local": ["apps": ["x": [:]]]],
      ["local": ["apps": ["1": ["commit": "c", "services": ["1": .null]]]]],
      ["local": ["apps": ["1": ["commit": "c", "services": ["1": [:]]]]]],
      ["local": ["apps": ["1": ["commit": 5]]]], ["local": ["apps": ["1": ["commit": "c", "volumes": 1]]]],
      [
        "local": [
          "apps": ["1": ["commit": "c", "services": ["1": ["serviceName": "a"], "2": ["serviceName": "a"]]]]
        ]
      ],
    ] as [JSON])
  func `a malformed body is an error that names the place`(body: JSON) {
    let error = #expect(throws: TargetStateError.self) {
      try TargetStateDocument.convertV2(body, deviceUuid: "0123", deviceName: "d")
    }
    #expect(error?.kind == .invalid && error?.message.hasPrefix("Invalid target state.\nExpecting ") == true)
  }

  @Test func `a device without uuid has no target`() {
    #expect(throws: TargetStateError(.failed, "No UUID for device")) {
      try TargetStateDocument.convertV2([:], deviceUuid: "", deviceName: "d")
    }
  }
}

nonisolated extension JSON {
  /// Sets or removes the value at a path of member names.
  mutating func set(_ path: ArraySlice<String>, _ value: JSON?) {
    guard let key = path.first else { return }
    var members = objectValue ?? [:]
    if path.count == 1 {
      members[key] = value
    } else {
      var child = members[key] ?? [:]
      child.set(path.dropFirst(), value)
      members[key] = child
    }
    self = .object(members)
  }
}
