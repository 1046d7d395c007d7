import Database
import Glibc
import TestSupport
import Testing

@Suite("Store: opening, damage and unwritable places")
struct StoreTests {
  let scratch = Scratch()
  var path: String { scratch.file("data/database.sqlite") }

  func open(_ policy: Store.UnwritablePolicy = .fail) throws -> Store {
    try Store.open(at: path, whenUnwritable: policy, logger: quiet)
  }

  func makeStore() throws {
    let store = try open()
    try store.targets.replace([app("a")], source: "local", deviceName: "d", deviceConfig: ["X": "1"])
    _ = try store.keys.globalKey()
  }

  @Test("a missing directory is created")
  func createsDirectory() throws {
    #expect(try open().origin == .created)
    #expect(try open().origin == .existing)
  }

  @Test("a second agent on the same directory is refused with the process id of the first")
  func locked() throws {
    let store = try open()
    let error = try #require(throws: DatabaseError.self) { _ = try open(.runFromMemory) }
    #expect(error.code == .inUse)
    #expect(error.message.contains("process \(getpid())"))
    withExtendedLifetime(store) {}
  }

  @Test("the lock ends with the store")
  func unlocks() throws {
    do { _ = try open() }
    #expect(throws: Never.self) { _ = try open() }
  }

  nonisolated enum Damage: String, CaseIterable {
    case notADatabase, wrongHeader, truncatedInPage, truncatedAtPage, overwrittenPages, missingTable
    case walIsADirectory, journalIsADirectory
  }

  @Test("a damaged file is moved aside and a fresh one takes its place", arguments: Damage.allCases)
  func damaged(_ damage: Damage) throws {
    try makeStore()
    var bytes = contents(of: path)
    switch damage {
    case .notADatabase: bytes = Array("once upon a time there was no database here".utf8)
    case .wrongHeader: bytes.replaceSubrange(0..<8, with: Array("SQLotus ".utf8))
    case .truncatedInPage: bytes = Array(bytes[..<(4096 + 1000)])
    case .truncatedAtPage: bytes = Array(bytes[..<8192])
    case .overwrittenPages: for at in 4096..<bytes.count { bytes[at] = UInt8(truncatingIfNeeded: at &* 31) }
    case .missingTable: try Connection(.file(path)).execute("DROP TABLE target_app")
    case .walIsADirectory: mkdir(path + "-wal", 0o700)
    case .journalIsADirectory: mkdir(path + "-journal", 0o700)
    }
    if damage != .missingTable { write(bytes, to: path) }

    let store = try open()
    guard case .rebuilt(let aside) = store.origin else {
      Issue.record("opened as \(store.origin)")
      return
    }
    #expect(aside.hasPrefix(path + ".damaged-"))
    if damage != .missingTable { #expect(contents(of: aside) == bytes) }
    #expect(try store.targets.isSet() == false)
    try store.targets.replace([app("b")], source: "local", deviceName: "d", deviceConfig: [:])
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["b"])
  }

  @Test(
    "a WAL or journal of garbage costs nothing that was committed", arguments: ["-wal", "-journal", "-shm"])
  func garbageCompanion(_ suffix: String) throws {
    try makeStore()
    write((0..<20000).map { UInt8(truncatingIfNeeded: $0 &* 7) }, to: path + suffix)
    let store = try open()
    #expect(store.origin == .existing)
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["a"])
  }

  @Test("damaged files do not pile up")
  func fewDamagedFiles() throws {
    for _ in 0..<6 {
      try makeStore()
      write(Array(repeating: 0x41, count: 5000), to: path)
      _ = try open()
    }
    let kept = Scratch.names(in: scratch.file("data")).filter { $0.contains(".damaged-") }
    #expect(kept.count == Store.keptDamagedFiles)
  }

  @Test("an empty file is a new database")
  func emptyFile() throws {
    mkdir(scratch.file("data"), 0o700)
    write([], to: path)
    #expect(try open().origin == .created)
  }

  @Test("a directory at the place of the file is an error that names it")
  func directoryInPlace() throws {
    mkdir(scratch.file("data"), 0o700)
    mkdir(path, 0o700)
    let error = try #require(throws: DatabaseError.self) { _ = try open() }
    #expect(error.code == .cannotOpen)
    #expect("\(error)".contains(path))
  }

  @Test("a file of a newer agent is used as far as it is known")
  func newerSchema() throws {
    try makeStore()
    try Connection(.file(path)).execute(
      "ALTER TABLE target_app ADD COLUMN later TEXT; PRAGMA user_version = 99")
    let store = try open()
    #expect(store.origin == .existing)
    #expect(try store.targets.apps(source: "local").count == 1)
  }

  @Test("a file cut off at any byte of its WAL holds the old or the new target whole")
  func anyPrefixOfTheLog() throws {
    let store = try open()
    try store.targets.replace(
      [app("old1"), app("old2")], source: "local", deviceName: "old", deviceConfig: ["X": "old"])
    try store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    try store.targets.replace(
      (0..<40).map { app("new\($0)", id: $0) }, source: "local", deviceName: "new", deviceConfig: ["X": "new"]
    )
    let database = contents(of: path)
    let log = contents(of: path + "-wal")
    #expect(log.count > 4 * 4096)

    let other = Scratch()
    var seen: Set<String> = []
    for length in Array(stride(from: 0, to: log.count, by: 1021)) + [log.count] {
      write(database, to: other.file("d"))
      write(log[..<length], to: other.file("d-wal"))
      let copy = try Store.open(at: other.file("d"), logger: quiet)
      #expect(copy.origin == .existing)
      let name = try copy.targets.deviceName() ?? ""
      let uuids = Set(try copy.targets.apps(source: "local").map(\.uuid))
      #expect(uuids == (name == "old" ? ["old1", "old2"] : Set((0..<40).map { "new\($0)" })))
      #expect(try copy.targets.deviceConfig() == ["X": name])
      seen.insert(name)
    }
    #expect(seen == ["old", "new"])
  }

  @Test("a file copied in the middle of a transaction holds what was committed before")
  func middleOfTransaction() throws {
    let store = try open()
    try store.settings.set("name", to: "before")
    let other = Scratch()
    try store.connection.transaction { () throws(DatabaseError) in
      try store.settings.set("name", to: "after")
      // More than the page cache holds, so that uncommitted pages reach the WAL.
      for number in 0..<200 {
        try store.settings.set("k\(number)", to: String(repeating: "x", count: 3000))
      }
      write(contents(of: path), to: other.file("d"))
      write(contents(of: path + "-wal"), to: other.file("d-wal"))
    }
    #expect(contents(of: other.file("d-wal")).count > 300_000)
    let copy = try Store.open(at: other.file("d"), logger: quiet)
    #expect(try copy.settings.all() == ["name": "before"])
  }

  @Test(
    "a full disk fails the write with a clear error and keeps the old state", .enabled(if: geteuid() == 0))
  func fullDisk() throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 512)
    try #require(disk.isMounted)
    let file = "\(disk.path)/database.sqlite"
    let store = try Store.open(at: file, logger: quiet)
    try store.settings.set("name", to: "before")
    disk.fill()
    let error = try #require(throws: DatabaseError.self) {
      try store.targets.replace(
        (0..<200).map { app("new\($0)", id: $0) }, source: "local", deviceName: "after", deviceConfig: [:])
    }
    #expect(error.code == .full)
    #expect(try store.settings.text("name") == "before")
    #expect(try store.targets.apps(source: "local").isEmpty)
    unlink("\(disk.path)/filler")
    try store.settings.set("name", to: "after")
    #expect(try store.settings.text("name") == "after")
  }

  @Test("a new database on a full disk is an error that names file and reason", .enabled(if: geteuid() == 0))
  func newOnFullDisk() throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    disk.fill()
    let file = "\(disk.path)/database.sqlite"
    let error = try #require(throws: DatabaseError.self) { _ = try Store.open(at: file, logger: quiet) }
    #expect(error.isUnwritable)
    #expect(error.code == .full)
    let store = try Store.open(at: file, whenUnwritable: .runFromMemory, logger: quiet)
    #expect(store.volatileReason?.code == .full)
    try store.settings.set("name", to: "works")
  }

  @Test("on a read-only disk the agent runs on with what it knew", .enabled(if: geteuid() == 0))
  func readOnlyDisk() throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 2048)
    try #require(disk.isMounted)
    let file = "\(disk.path)/database.sqlite"
    let key: String
    do {
      let store = try Store.open(at: file, logger: quiet)
      try store.targets.replace([app("a")], source: "local", deviceName: "d", deviceConfig: [:])
      key = try store.keys.key(app: 1, service: "web")
      // A crash: the WAL stays.
      write(contents(of: file), to: "\(disk.path)/crashed.sqlite")
      write(contents(of: file + "-wal"), to: "\(disk.path)/crashed.sqlite-wal")
    }
    try #require(disk.makeReadOnly())
    for name in ["database.sqlite", "crashed.sqlite"] {
      let path = "\(disk.path)/\(name)"
      let error = try #require(throws: DatabaseError.self) { _ = try Store.open(at: path, logger: quiet) }
      #expect(error.code == .readOnly)
      #expect("\(error)".contains(path))
      let store = try Store.open(at: path, whenUnwritable: .runFromMemory, logger: quiet)
      #expect(store.volatileReason?.code == .readOnly)
      #expect(try store.keys.key(app: 1, service: "web") == key)
      #expect(try store.targets.apps(source: "local").map(\.uuid) == ["a"])
      try store.settings.set("name", to: "new")
      #expect(try store.settings.text("name") == "new")
    }
  }

  @Test("once there is room, what was learnt in memory goes to the disk", .enabled(if: geteuid() == 0))
  func healed() throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 1024)
    try #require(disk.isMounted)
    let file = "\(disk.path)/database.sqlite"
    let key: String
    do {
      let store = try Store.open(at: file, logger: quiet)
      key = try store.keys.key(app: 1, service: "web")
    }
    disk.fill()
    do {
      let store = try Store.open(at: file, whenUnwritable: .runFromMemory, logger: quiet)
      #expect(store.volatileReason?.code == .full)
      try store.targets.replace([app("a")], source: "local", deviceName: "d", deviceConfig: [:])
      #expect(throws: DatabaseError.self) { try store.becomeDurable() }
      #expect(store.volatileReason != nil)
      unlink("\(disk.path)/filler")
      try store.becomeDurable()
      #expect(store.volatileReason == nil)
      #expect(store.connection.location == .file(file))
      try store.settings.set("later", to: "too")
      #expect(store.keys.find(key) != nil)
    }
    let store = try Store.open(at: file, logger: quiet)
    #expect(try store.targets.apps(source: "local").map(\.uuid) == ["a"])
    #expect(try store.settings.text("later") == "too")
    #expect(try store.keys.key(app: 1, service: "web") == key)
  }

  @Test("a file that could not be read is kept when its place is taken")
  func keepsUnread() throws {
    mkdir(scratch.file("d"), 0o755)
    let file = scratch.file("d/database.sqlite")
    do { try Store.open(at: file, logger: quiet).settings.set("name", to: "kept") }
    // Neither the directory nor the file is where it will be.
    rename(scratch.file("d"), scratch.file("away"))
    write("", to: scratch.file("d"))
    let store = try Store.open(at: file, whenUnwritable: .runFromMemory, logger: quiet)
    #expect(store.volatileReason != nil)
    #expect(throws: DatabaseError.self) { try store.becomeDurable() }
    unlink(scratch.file("d"))
    rename(scratch.file("away"), scratch.file("d"))
    try store.becomeDurable()
    #expect(try store.settings.text("name") == nil)
    let kept = try #require(Scratch.names(in: scratch.file("d")).first { $0.contains(".damaged-") })
    #expect(
      try Connection(.file(scratch.file("d/\(kept)"))).first("SELECT value FROM config") { $0.text(0) }
        == "kept")
  }
}
