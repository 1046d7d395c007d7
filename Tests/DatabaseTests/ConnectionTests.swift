import Database
import Glibc
import TestSupport
import Testing

@Suite("Connection")
struct ConnectionTests {
  let scratch = Scratch()

  func open() throws -> Connection { try Connection(.file(scratch.file("d"))) }

  @Test("a database file and its companions are readable by their owner alone")
  func permissions() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a)")
    #expect(scratch.names == ["d", "d-shm", "d-wal"])
    for name in scratch.names { #expect(mode(of: scratch.file(name)) == 0o600) }
  }

  @Test("a database file that others may read is restricted when it is opened")
  func restricts() throws {
    write([], to: scratch.file("d"))
    chmod(scratch.file("d"), 0o644)
    _ = try open()
    #expect(mode(of: scratch.file("d")) == 0o600)
  }

  @Test("values come back as they were bound")
  func values() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a INTEGER, b TEXT, c TEXT)")
    try connection.run("INSERT INTO t VALUES (?, ?, ?)", [.integer(.min), "naïve \u{0} '\"", nil])
    let row = try connection.first("SELECT a, b, c FROM t") { row in
      (row.integer(0), row.text(1), row.text(2), row.isNull(2))
    }
    #expect(row?.0 == .min)
    #expect(row?.1 == "naïve \u{0} '\"")
    #expect(row?.2 == nil)
    #expect(row?.3 == true)
  }

  @Test("an empty text is not NULL")
  func emptyText() throws {
    let connection = try open()
    let text = try connection.first("SELECT ?", [""]) { row in row.text(0) }
    #expect(text == .some(""))
  }

  @Test("a transaction that throws leaves nothing behind")
  func rollback() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a UNIQUE)")
    #expect(throws: DatabaseError.self) {
      try connection.transaction { () throws(DatabaseError) in
        try connection.run("INSERT INTO t VALUES (1)")
        try connection.run("INSERT INTO t VALUES (1)")
      }
    }
    let count = try connection.first("SELECT count(*) FROM t") { row in row.integer(0) }
    #expect(count == .some(0))
    try connection.transaction { () throws(DatabaseError) in try connection.run("INSERT INTO t VALUES (2)") }
  }

  @Test("an inner transaction that throws undoes its own part only")
  func nestedRollback() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a)")
    try connection.transaction { () throws(DatabaseError) in
      try connection.run("INSERT INTO t VALUES (1)")
      do {
        try connection.transaction { () throws(DatabaseError) in
          try connection.run("INSERT INTO t VALUES (2)")
          throw DatabaseError(.other, "stop", context: "")
        }
      } catch {}
    }
    let values = try connection.rows("SELECT a FROM t") { row in row.integer(0) }
    #expect(values == [1])
  }

  @Test("a statement may be run inside the rows of the same statement")
  func reentrance() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
    let sums = try connection.rows("SELECT a FROM t") { row throws(DatabaseError) -> Int in
      let all = try connection.rows("SELECT a FROM t") { row in row.integer(0) ?? 0 }
      return all.reduce(row.integer(0) ?? 0, +)
    }
    #expect(sums == [4, 5])
  }

  @Test("an error names the statement and never a value")
  func errorsWithoutValues() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a UNIQUE)")
    try connection.run("INSERT INTO t VALUES (?)", ["s3cret"])
    let error = try #require(throws: DatabaseError.self) {
      try connection.run("INSERT INTO t VALUES (?)", ["s3cret"])
    }
    #expect(error.code == .constraint)
    #expect(error.context == "INSERT INTO t VALUES (?)")
    #expect(!"\(error)".contains("s3cret"))
  }

  @Test("rows that another connection writes are seen, and change the data version")
  func otherWriter() throws {
    let connection = try open()
    try connection.execute("CREATE TABLE t (a)")
    let before = try connection.dataVersion()
    try open().run("INSERT INTO t VALUES (5)")
    #expect(try connection.dataVersion() != before)
    #expect(try connection.first("SELECT a FROM t") { row in row.integer(0) } == .some(5))
  }

  @Test(
    "a write waits for another program that is in the middle of its own",
    .enabled(if: access("/usr/bin/sqlite3", X_OK) == 0))
  func waitsForOtherProgram() throws {
    let store = try Store.open(at: scratch.file("database.sqlite"), logger: quiet)
    let script = """
      /usr/bin/sqlite3 \(scratch.file("database.sqlite")) <<'END'
      BEGIN IMMEDIATE;
      INSERT INTO config (key, value) VALUES ('listenPortOverride', '48485')
        ON CONFLICT (key) DO UPDATE SET value = excluded.value;
      .shell echo locked; sleep 0.2
      COMMIT;
      END
      """
    let child = try #require(popen(script, "r"))
    #expect(fgetc(child) == Int32(UInt8(ascii: "l")))
    try store.settings.set("name", to: "boat")
    #expect(pclose(child) == 0)
    #expect(try store.settings.all() == ["listenPortOverride": "48485", "name": "boat"])
  }
}
