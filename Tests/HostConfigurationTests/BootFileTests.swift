import Glibc
import TestSupport
import Testing

@testable import HostConfiguration

private final class Outcome {
  var isKnown = false
  var error: String?
}

@Suite("Files on the boot partition")
struct BootFileTests {
  let scratch = Scratch()

  init() { LoopDriver.start() }

  var path: String { scratch.file("config.json") }

  func pending(_ content: String, sum: String? = nil, random: String = "0badcafe", suffix: String = "md5sum")
    -> String
  {
    ".config.json.\(random).\(sum ?? MD5.hexadecimal(Array(content.utf8))).\(suffix)"
  }

  func read() throws -> String { String(decoding: try BootFile.read(path), as: UTF8.self) }

  @Test(
    "checksums are those of RFC 1321",
    arguments: [
      ("", "d41d8cd98f00b204e9800998ecf8427e"), ("a", "0cc175b9c0f1b6a831c399e269772661"),
      ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
      (String(repeating: "1234567890", count: 8), "57edf4a22be3c955ac49da2e2107b67a"),
    ])
  func checksums(_ message: String, _ sum: String) {
    #expect(MD5.hexadecimal(Array(message.utf8)) == sum)
  }

  @Test("checksums agree with md5sum for every length around a block")
  func checksumsOfEveryLength() throws {
    for length in 0..<200 {
      write((0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7) }, to: scratch.file("\(length)"))
    }
    let child = try #require(popen("cd \(scratch.path) && md5sum *", "r"))
    var output: [UInt8] = []
    while case let byte = fgetc(child), byte != EOF { output.append(UInt8(byte)) }
    pclose(child)
    let lines = String(decoding: output, as: UTF8.self).split(separator: "\n")
    #expect(lines.count == 200)
    for line in lines {
      let name = String(line.dropFirst(34))
      #expect(line.hasPrefix(MD5.hexadecimal(contents(of: scratch.file(name)))))
    }
  }

  @Test("a write leaves the file and nothing else")
  func writeLeavesNothing() async throws {
    try await BootFile.write(Array("one".utf8), to: path)
    try await BootFile.write(Array("two".utf8), to: path)
    #expect(try read() == "two")
    #expect(scratch.names == ["config.json"])
  }

  /// What another task sees of a write in turns: at each turn the old or the new content, whole.
  @Test("a write in turns lets others go on between its steps")
  func turns() async throws {
    try await BootFile.write(Array("old".utf8), to: path)
    let path = path
    let outcome = Outcome()
    let write = Task {
      try? await BootFile.write(Array("new".utf8), to: path)
      outcome.isKnown = true
    }
    var endings: Set<[String]> = []
    var texts: Set<String> = []
    while !outcome.isKnown {
      endings.insert(scratch.names.map { String($0.split(separator: ".").last ?? "") })
      texts.insert(text(of: path))
      await Task.yield()
    }
    await write.value
    #expect(endings.contains(["md5sum", "json"]))
    #expect(texts.isSubset(of: ["old", "new"]))
    #expect(try read() == "new")
    #expect(scratch.names == ["config.json"])
  }

  @Test("a read between the steps of a write finishes it, and the write ends well")
  func readDuringTurns() async throws {
    try await BootFile.write(Array("old".utf8), to: path)
    let path = path
    let outcome = Outcome()
    let write = Task {
      do { try await BootFile.write(Array("new".utf8), to: path) } catch { outcome.error = "\(error)" }
      outcome.isKnown = true
    }
    while scratch.names.count < 2, !outcome.isKnown { await Task.yield() }
    #expect(!outcome.isKnown)
    #expect(try read() == "new")
    await write.value
    #expect(outcome.error == nil)
    #expect(try read() == "new")
    #expect(scratch.names == ["config.json"])
  }

  @Test("a write into a missing directory is an error that names the file")
  func missingDirectory() async throws {
    let error = try await #require(throws: FileError.self) {
      try await BootFile.write([1], to: scratch.file("none/config.json"))
    }
    #expect(error.code == ENOENT)
    #expect(error.message.contains(scratch.file("none/")))
  }

  @Test("a file that does not exist is not read, even when an interrupted write of it is there")
  func missingFile() throws {
    write("new", to: scratch.file(pending("new")))
    let error = try #require(throws: FileError.self) { _ = try read() }
    #expect(error.code == ENOENT)
    #expect(error.message == "Failed to read file \(path)")
  }

  @Test("a complete interrupted write is finished")
  func finishes() throws {
    write("old", to: path)
    write("new", to: scratch.file(pending("new")))
    write("ne", to: scratch.file(pending("new", suffix: "tmp")))
    #expect(try read() == "new")
    #expect(text(of: path) == "new")
    #expect(scratch.names == ["config.json"])
  }

  @Test(
    "an interrupted write whose content does not match its name is discarded", arguments: ["", "ne", "newer"])
  func discards(_ content: String) throws {
    write("old", to: path)
    write(content, to: scratch.file(pending("new")))
    write("x", to: scratch.file(pending("new", suffix: "tmp")))
    #expect(try read() == "old")
    #expect(scratch.names == ["config.json"])
  }

  @Test("a power cut after any step of a write leaves the old or the new content whole")
  func everyStep() throws {
    let sum = pending("new")
    let copy = pending("new", suffix: "tmp")
    // What is in the directory after each step of host 1.7, torn files included, and what must be read.
    let steps: [([String: String], expected: String)] = [
      (["config.json": "old"], "old"),
      (["config.json": "old", sum: ""], "old"),
      (["config.json": "old", sum: "ne"], "old"),
      (["config.json": "old", sum: "new"], "new"),
      (["config.json": "old", sum: "new", copy: ""], "new"),
      (["config.json": "old", sum: "new", copy: "new"], "new"),
      (["config.json": "", sum: "new"], "new"),
      (["config.json": "new", sum: "new"], "new"),
      (["config.json": "new"], "new"),
    ]
    for (files, expected) in steps {
      for name in scratch.names { unlink(scratch.file(name)) }
      for (name, content) in files { write(content, to: scratch.file(name)) }
      #expect(try read() == expected)
      #expect(try read() == expected)
      #expect(scratch.names == ["config.json"])
    }
  }

  @Test("of several interrupted writes one sound one wins and all are cleaned up")
  func several() throws {
    write("old", to: path)
    write("torn", to: scratch.file(pending("whole", random: "00000001")))
    write("first", to: scratch.file(pending("first", random: "00000002")))
    write("bad", to: scratch.file(pending("", sum: "nonsense", random: "00000003")))
    #expect(try read() == "first")
    #expect(scratch.names == ["config.json"])
  }

  @Test("interrupted writes of other files are left alone")
  func otherFiles() throws {
    write("old", to: path)
    let others = [
      ".config.json2.0badcafe.x.md5sum", ".config.json.md5sum", "config.json.a.b.md5sum", ".other.a.b.md5sum",
    ]
    for name in others { write("x", to: scratch.file(name)) }
    #expect(try read() == "old")
    #expect(scratch.names == (others + ["config.json"]).sorted())
  }

  @Test("outside of the boot partition the mode of a file and a link to it are kept")
  func plainWrite() throws {
    write("old", to: scratch.file("real"))
    chmod(scratch.file("real"), 0o640)
    symlink("real", scratch.file("link"))
    try DurableFile.write(Array("new".utf8), to: scratch.file("link"))
    #expect(text(of: scratch.file("real")) == "new")
    #expect(mode(of: scratch.file("real")) == 0o640)
    #expect(scratch.names == ["link", "real"])
    try DurableFile.write([1], to: scratch.file("fresh"))
    #expect(mode(of: scratch.file("fresh")) == 0o600)
  }
}
