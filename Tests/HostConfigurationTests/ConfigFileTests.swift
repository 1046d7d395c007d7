import Glibc
import JSON
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("config.json")
struct ConfigFileTests {
  let scratch = Scratch()
  var path: String { scratch.file("boot/config.json") }
  var copy: String { scratch.file("data/config.json.last-good") }

  init() {
    LoopDriver.start()
    mkdir(scratch.file("boot"), 0o700)
    mkdir(scratch.file("data"), 0o700)
  }

  func open(onBoot: Bool = true) async throws -> ConfigFile {
    try await ConfigFile(
      path: path, bootDirectory: onBoot ? scratch.file("boot") : "/nowhere", copyPath: copy, logger: quiet)
  }

  static let odd =
    #"{ "z": 1.50, "deviceType":"x", "big":12345678901234567890,"os":{"b":[1,2],"a":null}, "uuid":"u" }"#

  @Test("members that are not ours keep order and spelling", arguments: [true, false])
  func orderAndSpelling(_ onBoot: Bool) async throws {
    write(Self.odd, to: path)
    let file = try await open(onBoot: onBoot)
    #expect(try await file.update(["uuid": .set("v"), "deviceId": .set(5)]) == ["uuid", "deviceId"])
    #expect(
      text(of: path)
        == #"{"z":1.50,"deviceType":"x","big":12345678901234567890,"os":{"b":[1,2],"a":null},"uuid":"v","deviceId":5}"#
    )
    #expect(Scratch.names(in: scratch.file("boot")) == ["config.json"])
  }

  @Test("a change that changes nothing does not touch the file")
  func untouched() async throws {
    write(Self.odd, to: path)
    let file = try await open()
    #expect(try await file.update(["uuid": .set("u"), "z": .set(try JSON(parsing: "1.5"))]).isEmpty)
    #expect(text(of: path) == Self.odd)
  }

  @Test("what others wrote between read and write survives")
  func externalEdit() async throws {
    write(#"{"uuid":"u","hostname":"a"}"#, to: path)
    let file = try await open()
    write(#"{"hostname":"b","added":[true],"uuid":"u"}"#, to: path)
    #expect(try await file.update(["deviceId": .set(1)]) == ["hostname", "added", "deviceId"])
    #expect(text(of: path) == #"{"hostname":"b","added":[true],"uuid":"u","deviceId":1}"#)
    #expect(file.members["hostname"] == "b")
  }

  @Test("a removed member is gone, a null one is null")
  func removal() async throws {
    write(#"{"apiKey":"k","deviceId":1,"x":2}"#, to: path)
    let file = try await open()
    try await file.update(["apiKey": .remove, "deviceId": .set(.null)])
    #expect(text(of: path) == #"{"deviceId":null,"x":2}"#)
  }

  @Test("reading again tells what others changed")
  func reload() async throws {
    write(#"{"a":1,"b":2,"c":3}"#, to: path)
    let file = try await open()
    write(#"{"b":2.0,"a":2,"d":4}"#, to: path)
    #expect(await file.reload() == ["a", "c", "d"])
    #expect(await file.reload().isEmpty)
    write("{", to: path)
    #expect(await file.reload().isEmpty)
    #expect(file.members["a"] == 2)
  }

  @Test(
    "an unusable file is replaced by the last good copy, and kept beside it",
    arguments: [
      "", "{", "[]", "null", "{\"uuid\":\"u\"}trailing", "\u{0}\u{0}\u{0}",
    ])
  func restored(_ broken: String) async throws {
    write(Self.odd, to: path)
    do { _ = try await open() }
    write(broken, to: path)
    let file = try await open()
    guard case .lastGoodCopy = file.origin else {
      Issue.record("origin \(file.origin)")
      return
    }
    #expect(file.members["uuid"] == "u")
    #expect(text(of: path) == text(of: copy))
    #expect(text(of: copy + ".damaged") == broken)
    #expect(try await open().origin == .file)
  }

  @Test("a file that has gone is restored from the last good copy where its directory has other files")
  func restoredWhenMissing() async throws {
    write(Self.odd, to: path)
    write("{}", to: scratch.file("boot/device-type.json"))
    do { _ = try await open() }
    unlink(path)
    #expect(try await open().members["uuid"] == "u")
    #expect(text(of: path).contains(#""uuid":"u""#))
  }

  @Test(
    "in the empty place of a partition that is not mounted nothing is written, and changes go to the copy")
  func unmounted() async throws {
    write(Self.odd, to: path)
    do { _ = try await open() }
    unlink(path)
    let file = try await open()
    #expect(try await file.update(["deviceId": .set(5)]) == ["deviceId"])
    #expect(Scratch.names(in: scratch.file("boot")).isEmpty)
    #expect(try await open().members["deviceId"] == 5)
    // It is mounted after all.
    write(Self.odd, to: path)
    #expect(await file.reload().isEmpty)
    #expect(text(of: path).hasSuffix(#""uuid":"u","deviceId":5}"#))
  }

  @Test(
    "a broken file that cannot be kept stays byte for byte, and changes go to the copy",
    arguments: [true, false])
  func unkept(_ isFoundAtStart: Bool) async throws {
    write(Self.odd, to: path)
    var file = try await open()
    // A directory at its place stops even root.
    mkdir(copy + ".damaged", 0o700)
    write("garbage", to: path)
    if isFoundAtStart { file = try await open() }
    #expect(text(of: path) == "garbage")
    #expect(try await file.update(["deviceId": .set(5)]) == ["deviceId"])
    #expect(text(of: path) == "garbage")
    #expect(text(of: copy).hasSuffix(#""uuid":"u","deviceId":5}"#))
    rmdir(copy + ".damaged")
    #expect(try await file.update(["hostname": .set("h")]) == ["hostname"])
    #expect(text(of: path).hasSuffix(#""uuid":"u","deviceId":5,"hostname":"h"}"#))
    #expect(text(of: copy + ".damaged") == "garbage")
  }

  @Test("a change that neither file nor copy can take is an error and changes nothing")
  func nowhere() async throws {
    write(Self.odd, to: path)
    let file = try await open()
    write("garbage", to: path)
    mkdir(copy + ".damaged", 0o700)
    mkdir(copy + ".new", 0o700)
    let error = try await #require(throws: ConfigFileError.self) {
      try await file.update(["deviceId": .set(5)])
    }
    #expect(error.message.hasPrefix("\(path) is unusable, and its copy cannot be written: "))
    #expect(text(of: path) == "garbage" && file.members["deviceId"] == nil)
    rmdir(copy + ".damaged")
    rmdir(copy + ".new")
  }

  @Test("a file that is no file is left alone")
  func directory() async throws {
    write(Self.odd, to: path)
    do { _ = try await open() }
    unlink(path)
    mkdir(path, 0o700)
    let file = try await open()
    #expect(file.members["uuid"] == "u")
    #expect(try await file.update(["deviceId": .set(5)]) == ["deviceId"])
    rmdir(path)
  }

  @Test("an unusable file without a copy is an error that names it and what to do")
  func unusable() async throws {
    write("{\"a\":", to: path)
    let error = try await #require(throws: ConfigFileError.self) { _ = try await open() }
    #expect(
      error.message.hasPrefix("\(path) is unusable (Unexpected end of JSON input in JSON at position 5)"))
    #expect(error.message.hasSuffix("correct the file, then restart"))
    #expect(text(of: path) == "{\"a\":")
  }

  @Test("without file and copy the device starts without settings, and the first change creates the file")
  func missing() async throws {
    let file = try await open()
    #expect(file.origin == .missing && file.members.isEmpty)
    try await file.update(["uuid": .set("u")])
    #expect(text(of: path) == #"{"uuid":"u"}"#)
  }

  @Test(
    "a file that breaks while the agent runs is written whole at the next change, and kept beside the copy")
  func brokenMeanwhile() async throws {
    write(#"{"uuid":"u","keep":1}"#, to: path)
    let file = try await open()
    write("garbage", to: path)
    try await file.update(["deviceId": .set(1)])
    #expect(text(of: path) == #"{"uuid":"u","keep":1,"deviceId":1}"#)
    #expect(text(of: copy + ".damaged") == "garbage")
  }

  @Test("a change that cannot be written changes nothing in memory, and the error names the file")
  func unwritable() async throws {
    write(#"{"uuid":"u"}"#, to: path)
    let file = try await open(onBoot: false)
    // A directory at the place of the intermediate file stops even root.
    mkdir(path + ".new", 0o700)
    let error = try await #require(throws: ConfigFileError.self) {
      try await file.update(["uuid": .set("v")])
    }
    #expect(error.message.hasPrefix("\(path) cannot be written: "))
    #expect(file.members["uuid"] == "u")
    #expect(text(of: path) == #"{"uuid":"u"}"#)
    rmdir(path + ".new")
  }

  @Test("the copy is readable by its owner alone")
  func copyMode() async throws {
    write(Self.odd, to: path)
    _ = try await open()
    #expect(mode(of: copy) == 0o600)
  }

  @Test("changes that come together are made in their order, each whole, and memory follows the disk")
  func order() async throws {
    write(#"{"kept":1.50}"#, to: path)
    let file = try await open()
    var ends: [Int] = []
    var seen: Set<String> = []
    let changes = (1...5).map { number in
      Task {
        _ = try? await file.update(["deviceId": .set(.int(number)), "hostname": .set(.string("h\(number)"))])
        ends.append(number)
      }
    }
    while ends.count < 5 {
      let now = text(of: path)
      seen.insert(now)
      // What is told is on the disk.
      if let number = file.members["deviceId"]?.intValue {
        #expect(now.contains("\"deviceId\":\(number)") || now.contains("\"deviceId\":\(number + 1)"))
      }
      await Task.yield()
    }
    for change in changes { await change.value }
    #expect(ends == [1, 2, 3, 4, 5])
    #expect(!file.isWriting)
    let whole = (1...5).map { #"{"kept":1.50,"deviceId":\#($0),"hostname":"h\#($0)"}"# }
    #expect(seen.isSubset(of: whole + [#"{"kept":1.50}"#]))
    #expect(text(of: path) == whole[4])
    #expect(text(of: copy) == whole[4])
    #expect(Scratch.names(in: scratch.file("boot")) == ["config.json"])
  }

  @Test("what others write while a change waits for its turn is kept")
  func editWhileWaiting() async throws {
    write("{}", to: path)
    let file = try await open()
    let first = Task { try await file.update(["deviceId": .set(1)]) }
    let second = Task { try await file.update(["hostname": .set("h")]) }
    _ = try await first.value
    write(#"{"deviceId":1,"theirs":true}"#, to: path)
    _ = try await second.value
    let reloaded = Task { await file.reload() }
    _ = await reloaded.value
    #expect(file.members["hostname"] == "h")
    #expect(file.members["deviceId"] == 1)
  }

  @Test("a reading waits for the write that is under way, and does not finish it within one turn")
  func readingWaits() async throws {
    write("{}", to: path)
    let file = try await open()
    let change = Task { try await file.update(["deviceId": .set(1)]) }
    let reading = Task { await file.reload() }
    #expect(try await change.value == ["deviceId"])
    #expect(await reading.value == [])
    #expect(file.members["deviceId"] == 1)
  }
}
