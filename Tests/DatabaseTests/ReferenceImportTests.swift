import Database
import TestSupport
import Testing

@Suite("Import of the reference's tables")
struct ReferenceImportTests {
  let scratch = Scratch()
  var path: String { scratch.file("database.sqlite") }

  /// The schema of target-state 2.1 with one row in each table.
  func makeReference() throws {
    try Connection(.file(path)).execute(
      """
      CREATE TABLE config (key varchar(255), value varchar(255), primary key (key));
      CREATE TABLE deviceConfig (targetValues json);
      CREATE TABLE app (id integer not null primary key autoincrement, name varchar(255), releaseId integer,
        "commit" varchar(255), appId integer, services json, networks json, volumes json,
        source varchar(255), uuid varchar(255) unique, class varchar(255) default 'fleet',
        isHost boolean default 0, rejected boolean default 0);
      CREATE TABLE image (id integer not null primary key autoincrement, name varchar(255), appId integer,
        serviceId integer, serviceName varchar(255), imageId integer, releaseId integer,
        dockerImageId varchar(255), appUuid varchar(255), "commit" varchar(255));
      CREATE TABLE apiSecret (id integer not null primary key autoincrement, appId integer,
        serviceName varchar(255), key varchar(255), scopes varchar(255), unique (appId, serviceName));
      CREATE TABLE currentCommit (id integer primary key, appId integer unique, "commit" varchar(255));
      CREATE TABLE engineSnapshot (snapshot text, timestamp varchar(255));
      CREATE TABLE logsChannelSecret (backend, secret);
      CREATE TABLE knex_migrations (id integer primary key, name);
      CREATE TABLE knex_migrations_lock (is_locked integer);
      INSERT INTO config VALUES ('name', 'boat'), ('targetStateSet', 'true'), ('localMode', 'false');
      INSERT INTO deviceConfig VALUES ('{"SUPERVISOR_DELTA":"true"}');
      INSERT INTO app (name, releaseId, "commit", appId, services, networks, volumes, source, uuid)
        VALUES ('acme', 99, 'c0ffee01', 1, '[{"serviceName":"web"}]', '{"n":{}}', '{}',
        'https://api.example', 'a1b2');
      INSERT INTO image (name, appId, serviceId, serviceName, imageId, releaseId, dockerImageId, appUuid,
        "commit") VALUES ('r/x@sha256:1', 1, 77, 'web', 88, 99, 'sha256:abc', 'a1b2', 'c0ffee01');
      INSERT INTO apiSecret (appId, serviceName, key, scopes) VALUES
        (0, NULL, 'aaaa', '[{"type":"global"}]'), (1, 'web', 'bbbb', '[{"type":"app","appId":1}]');
      INSERT INTO currentCommit (appId, "commit") VALUES (1, 'c0ffee01');
      INSERT INTO engineSnapshot VALUES ('{"containers":[]}', '2024-05-05T05:05:05.000Z');
      """)
  }

  func open() throws -> Store { try Store.open(at: path, logger: quiet) }

  func texts(_ connection: Connection, _ table: String) throws -> [[String?]] {
    try connection.rows("SELECT * FROM \(table)") { row in (0..<row.columnCount).map { row.text($0) } }
  }

  let referenceTables = [
    "deviceConfig", "app", "image", "apiSecret", "currentCommit", "engineSnapshot", "config",
  ]

  @Test("everything the reference knew is known")
  func imports() throws {
    try makeReference()
    let store = try open()
    #expect(store.origin == .existing)
    #expect(store.importedTables.count == 6)
    #expect(
      try store.targets.apps(source: "https://api.example") == [
        StoredApp(
          uuid: "a1b2", source: "https://api.example", appId: 1, name: "acme", releaseId: 99,
          commit: "c0ffee01", services: #"[{"serviceName":"web"}]"#, networks: #"{"n":{}}"#, volumes: "{}")
      ])
    #expect(try store.targets.deviceName() == "boat")
    #expect(try store.targets.isSet())
    #expect(try store.targets.deviceConfig() == ["SUPERVISOR_DELTA": "true"])
    let image = try #require(try store.images.all().first)
    #expect(image.engineId == "sha256:abc" && image.serviceId == 77 && image.appUuid == "a1b2")
    #expect(store.keys.find("bbbb")?.serviceName == "web")
    #expect(try store.keys.globalKey() == "aaaa")
    #expect(try store.commits.all() == [1: "c0ffee01"])
    #expect(try store.snapshots.load()?.takenAt == "2024-05-05T05:05:05.000Z")
  }

  @Test("the reference's rows stay as they are, whatever happens here")
  func untouched() throws {
    try makeReference()
    let before = try referenceTables.map { try texts(Connection(.file(path)), $0) }
    do {
      let store = try open()
      try store.targets.replace([], source: "https://api.example", deviceName: "boat", deviceConfig: [:])
      _ = try store.keys.regenerate("bbbb")
      try store.images.delete(rows: try store.images.all().compactMap(\.id))
    }
    let after = try referenceTables.map { try texts(Connection(.file(path)), $0) }
    #expect(before == after)
  }

  @Test("a second start imports nothing again")
  func once() throws {
    try makeReference()
    do {
      let store = try open()
      try store.settings.set(TargetStore.tagKey, to: "tag")
      try store.targets.replace([app("z")], source: "local", deviceName: "n", deviceConfig: [:])
      #expect(try store.settings.text(TargetStore.tagKey) == nil)
      try store.targets.replace([], source: "https://api.example", deviceName: "n", deviceConfig: [:])
    }
    let store = try open()
    #expect(store.importedTables.isEmpty)
    #expect(try store.targets.apps(source: "https://api.example").isEmpty)
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["z"])
    #expect(try store.keys.key(app: 1, service: "web") == "bbbb")
  }

  @Test("when the reference has run in between, its news are imported")
  func backAndForth() throws {
    try makeReference()
    do { _ = try open() }
    try Connection(.file(path)).execute(
      """
      UPDATE app SET "commit" = 'beef', releaseId = 100;
      UPDATE apiSecret SET key = 'cccc' WHERE appId = 1;
      """)
    let store = try open()
    #expect(try store.targets.apps(source: "https://api.example").map(\.commit) == ["beef"])
    #expect(store.keys.find("bbbb") == nil)
    #expect(store.keys.find("cccc") != nil)
    #expect(store.keys.find("aaaa") != nil)
  }

  @Test("tables that the reference has just created empty replace nothing")
  func emptyTables() throws {
    do {
      let store = try open()
      try store.targets.replace([app("a")], source: "local", deviceName: "n", deviceConfig: ["A": "1"])
      _ = try store.images.save(image("x"))
    }
    try Connection(.file(path)).execute(
      """
      CREATE TABLE app (id, name, releaseId, "commit", appId, services, networks, volumes, source, uuid);
      CREATE TABLE image (id, name); CREATE TABLE deviceConfig (targetValues);
      INSERT INTO deviceConfig VALUES ('{}');
      """)
    let store = try open()
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["a"])
    #expect(try store.targets.deviceConfig() == ["A": "1"])
    #expect(try store.images.all().count == 1)
  }

  @Test("old tables without today's columns are taken as far as they go")
  func oldColumns() throws {
    try Connection(.file(path)).execute(
      """
      CREATE TABLE app (id, name, appId, services); INSERT INTO app VALUES (1, 'x', 2, '[]');
      CREATE TABLE image (id, name, appId); INSERT INTO image VALUES (1, 'i', 2);
      CREATE TABLE deviceConfig (targetValues); INSERT INTO deviceConfig VALUES ('{broken');
      """)
    let store = try open()
    #expect(store.importedTables == ["image"])
    #expect(try store.images.all().map(\.name) == ["i"])
  }
}
