import Database
import Glibc
import HostConfiguration
import JSON
import TestSupport
import Testing

@Suite("Settings")
struct SettingsTests {
  let scratch = Scratch()
  let store: Store

  init() throws {
    LoopDriver.start()
    store = try Store.inMemory()
  }

  var path: String { scratch.file("config.json") }

  func open(_ config: String = "{}") async throws -> Settings {
    write(config, to: path)
    let file = try await ConfigFile(
      path: path, bootDirectory: "/nowhere", copyPath: scratch.file("copy"), logger: quiet)
    return Settings(file: file, store: store, logger: quiet)
  }

  @Test("every setting has its default when nothing is stored")
  func defaults() async throws {
    let settings = try await open()
    for key in SettingKey.all { #expect(try settings.value(key) == key.defaultValue) }
    #expect(settings.int(.listenPort) == 48484)
    #expect(settings.string(.name) == "local")
    #expect(settings.bool(.instantUpdates))
    #expect(settings.string(.uuid) == nil)
  }

  @Test("the schema has each name of the chapter once")
  func schema() {
    #expect(Set(SettingKey.all.map(\.name)).count == SettingKey.all.count)
    #expect(SettingKey.all.count == 44)
    let fixed = SettingKey.all.filter { !$0.isMutable }.map(\.name).sorted()
    #expect(
      fixed == [
        "apiEndpoint", "apiEndpointOverride", "apiTimeout", "applicationId", "bootstrapRetryDelay",
        "deltaEndpoint", "initialDeviceName", "listenPort", "listenPortOverride", "logsEndpoint",
      ])
  }

  nonisolated static let coercions: [(SettingKey, JSON, JSON?)] = [
    (.hostname, "a", "a"), (.hostname, 1, nil), (.hostname, true, nil), (.hostname, "", ""),
    (.deviceId, 5, 5), (.deviceId, "5", 5), (.deviceId, "-5x", -5), (.deviceId, " +7", 7),
    (.deviceId, "0x10", 0), (.deviceId, "abc", nil), (.deviceId, "", nil), (.deviceId, true, nil),
    (.deviceId, "- 5", nil), (.deviceId, "12.9", 12), (.deviceId, [], nil),
    (.localMode, true, true), (.localMode, "true", true), (.localMode, "ON", true), (.localMode, "1", true),
    (.localMode, 1, true), (.localMode, 0, false), (.localMode, "off", false), (.localMode, "False", false),
    (.localMode, "0", false), (.localMode, nil, false), (.localMode, "yes", nil), (.localMode, " true", nil),
    (.localMode, "", nil), (.localMode, 2, nil), (.localMode, [], nil),
    (.pinDevice, ["app": 1, "commit": "c"], ["app": 1, "commit": "c"]),
    (.pinDevice, #"{"app":1,"commit":"c"}"#, ["app": 1, "commit": "c"]),
    (.pinDevice, ["app": "1", "commit": "c"], nil), (.pinDevice, ["app": 1], nil), (.pinDevice, "{", nil),
    (.targetTags, ["a": "b"], ["a": "b"]), (.targetTags, "{}", [:]), (.targetTags, ["a": 1], nil),
    (.os, ["a": [1]], ["a": [1]]), (.os, "x", nil), (.os, [], nil),
  ]

  @Test("values are coerced by their rule, or refused", arguments: coercions)
  func coercion(_ key: SettingKey, _ given: JSON, _ expected: JSON?) async throws {
    let settings = try await open()
    guard let expected else {
      let error = try await #require(throws: SettingError.self) { try await settings.set([key: given]) }
      let shown = given.stringValue ?? given.serialized()
      #expect("\(error)" == "Cannot set value for \(key), as value failed validation: \(shown)")
      return
    }
    try await settings.set([key: given])
    #expect(try settings.value(key) == expected)
  }

  @Test("rows of the table config have the texts that the reference writes")
  func rowTexts() async throws {
    let settings = try await open()
    try await settings.set([
      .localMode: "on", .deltaVersion: "3", .pinDevice: ["app": 1, "commit": "c"], .name: "n",
    ])
    #expect(
      try store.settings.all() == [
        "localMode": "true", "deltaVersion": "3", "pinDevice": #"{"app":1,"commit":"c"}"#, "name": "n",
      ])
  }

  @Test("a stored value that breaks its rule is an error, and the default for those who cannot wait")
  func invalidStored() async throws {
    let settings = try await open(#"{"listenPort":"web","hostname":5}"#)
    try store.settings.set("localMode", to: "maybe")
    let error = try #require(throws: SettingError.self) { try settings.value(.localMode) }
    #expect(
      "\(error)" == "There was an error validating configuration input for key: localMode, with value: maybe")
    #expect(throws: SettingError.self) { try settings.value(.hostname) }
    #expect(settings.int(.listenPort) == 48484)
    #expect(settings.bool(.localMode) == false)
  }

  @Test("null in config.json counts as absent")
  func nullIsAbsent() async throws {
    let settings = try await open(#"{"listenPort":null,"uuid":null}"#)
    #expect(settings.int(.listenPort) == 48484)
    #expect(try settings.value(.uuid) == nil)
  }

  @Test("unknown and immutable names are refused with the texts of the chapter")
  func refusals() async throws {
    let settings = try await open()
    #expect(throws: SettingError.unknown("foo")) { try settings.value(named: "foo") }
    for name in ["foo", "apiEndpoint", "version"] {
      let error = try await #require(throws: SettingError.self) { try await settings.set(named: [name: "x"]) }
      #expect("\(error)" == "Attempt to set value for non-mutable schema key: \(name)")
      let removal = try await #require(throws: SettingError.self) { try await settings.remove(named: name) }
      #expect("\(removal)" == "Attempt to delete non-existent or immutable key \(name)")
    }
  }

  @Test("nothing is written when one of several values fails")
  func allOrNothing() async throws {
    let settings = try await open()
    await #expect(throws: SettingError.self) {
      try await settings.set([.name: "n", .uuid: "u", .localMode: "perhaps"])
    }
    #expect(try store.settings.all() == [:])
    #expect(text(of: path) == "{}")
  }

  @Test("rows are put back when config.json cannot be written")
  func putBack() async throws {
    let settings = try await open()
    try await settings.set([.name: "old"])
    mkdir(path + ".new", 0o700)
    await #expect(throws: SettingError.self) {
      try await settings.set([.name: "new", .localMode: true, .uuid: "u"])
    }
    #expect(try store.settings.all() == ["name": "old"])
  }

  @Test("a secret shows in no error")
  func secrets() async throws {
    let settings = try await open(#"{"deviceApiKey":["s3cret"]}"#)
    let set = try await #require(throws: SettingError.self) { try await settings.set([.apiKey: ["s3cret"]]) }
    let get = try #require(throws: SettingError.self) { try settings.value(.deviceApiKey) }
    #expect(!"\(set) \(get)".contains("s3cret"))
  }

  @Test("setting the provisioning key to null removes it from the file")
  func provisioningKey() async throws {
    let settings = try await open(#"{"apiKey":"k","deviceId":1}"#)
    try await settings.set([.apiKey: .null, .deviceId: .null])
    #expect(text(of: path) == #"{"deviceId":null}"#)
  }

  @Test("a change tells its subscribers all keys of the call, coerced, after they are stored")
  func changes() async throws {
    let settings = try await open()
    var seen: [Settings.Change] = []
    settings.onChange(of: [.localMode]) { change in
      #expect(settings.bool(.localMode))
      seen.append(change)
    }
    try await settings.set([.localMode: "1", .name: "n", .uuid: "u"])
    try await settings.set([.localMode: "1"])
    try await settings.set([.name: "m"])
    #expect(seen == [[.localMode: true, .name: "n", .uuid: "u"], [.localMode: true]])
  }

  @Test("a subscriber may cancel itself and others while it is told")
  func cancelling() async throws {
    let settings = try await open()
    var calls: [Int] = []
    var second: Settings.Subscription?
    var first: Settings.Subscription?
    first = settings.onChange(of: [.name]) { _ in
      calls.append(1)
      first?.cancel()
      second?.cancel()
    }
    second = settings.onChange(of: [.name]) { _ in calls.append(2) }
    settings.onChange(of: [.name]) { _ in calls.append(3) }
    try await settings.set([.name: "a"])
    try await settings.set([.name: "b"])
    #expect(calls == [1, 3, 3])
  }

  @Test("subscribers hear of what others write to config.json")
  func externalChange() async throws {
    let settings = try await open(#"{"hostname":"a","foreign":1}"#)
    var seen: [Settings.Change] = []
    settings.onChange(of: [.hostname, .persistentLogging]) { seen.append($0) }
    write(#"{"hostname":"b","foreign":2}"#, to: path)
    await settings.reloadConfigFile()
    write(#"{"persistentLogging":"1","foreign":2}"#, to: path)
    try await settings.set([.uuid: "u"])
    #expect(seen == [[.hostname: "b"], [.hostname: .null, .persistentLogging: true, .uuid: "u"]])
  }

  @Test("an unmanaged device gets a uuid, a managed one a key as well, and neither twice")
  func identity() async throws {
    let unmanaged = try await open()
    try await unmanaged.generateIdentity()
    let uuid = try #require(unmanaged.string(.uuid))
    #expect(uuid.count == 32 && uuid.allSatisfy { $0.isHexDigit && !$0.isUppercase })
    #expect(unmanaged.string(.deviceApiKey) == "")

    let managed = try await open(#"{"apiEndpoint":"https://a","uuid":"mine"}"#)
    try await managed.generateIdentity()
    let key = try #require(managed.string(.deviceApiKey))
    #expect(key.count == 32 && managed.string(.uuid) == "mine")
    let written = text(of: path)
    try await managed.generateIdentity()
    #expect(text(of: path) == written)
  }

  @Test("derived values follow from the others")
  func derived() async throws {
    let fresh = try await open()
    #expect(fresh.isUnmanaged && !fresh.isProvisioned && fresh.targetSource == "local")
    #expect(fresh.currentApiKey == "")
    let full = try await open(
      #"{"apiEndpoint":"https://a","uuid":"u","registered_at":1,"deviceId":2,"deviceApiKey":"d","apiKey":"p"}"#
    )
    #expect(full.isProvisioned && full.currentApiKey == "p" && full.targetSource == "https://a")
    try await full.set([.apiKey: .null, .localMode: true])
    #expect(full.currentApiKey == "d" && full.targetSource == "local")
    try store.settings.set("apiEndpointOverride", to: "https://b")
    try store.settings.set("listenPortOverride", to: "48485")
    #expect(full.effectiveApiEndpoint == "https://b" && full.listenPorts.effective == 48485)
  }

  @Test(
    "the poll interval is never so short that what fails is tried without a pause",
    arguments: [
      ("0", 1000), ("-5", 1000), ("9223372036854775808", 1000), ("1e300", 1000), ("999", 1000),
      ("1001", 1001), ("null", 900_000), (#""60000""#, 60_000),
    ])
  func pollInterval(value: String, milliseconds: Int) async throws {
    let settings = try await open(#"{"appUpdatePollInterval":\#(value)}"#)
    #expect(settings.pollInterval == .milliseconds(milliseconds))
  }

  @Test(
    "a row that is set while the file is written stays, also when the file fails, and is what is announced")
  func rowsMeanwhile() async throws {
    let settings = try await open()
    var announced: [JSON?] = []
    settings.onChange(of: [.uuid]) { announced.append($0[.name]) }
    let change = Task { try await settings.set([.name: "first", .uuid: "u"]) }
    await Task.yield()
    #expect(settings.isWriting)
    #expect(settings.string(.name) == "first")
    try settings.setRows([.name: "second"])
    try await change.value
    #expect(settings.string(.name) == "second")
    #expect(announced == ["second"])

    // It fails when its turn comes, which is after another's.
    let path = path
    let before = Task {
      try await settings.set([.uuid: "v"])
      mkdir(path + ".new", 0o700)
    }
    let failing = Task { try await settings.set([.name: "third", .uuid: "w", .localMode: true]) }
    await Task.yield()
    #expect(settings.string(.name) == "third")
    try settings.setRows([.name: "fourth"])
    _ = try await before.value
    await #expect(throws: (any Error).self) { try await failing.value }
    #expect(settings.string(.name) == "fourth")
    #expect(!settings.bool(.localMode))
  }

  @Test("a key of config.json is no row")
  func rowsOnly() async throws {
    let settings = try await open()
    let error = try #require(throws: SettingError.self) { try settings.setRows([.name: "n", .uuid: "u"]) }
    #expect(error == .notMutable("uuid"))
    #expect(settings.string(.name) == "local")
  }
}
