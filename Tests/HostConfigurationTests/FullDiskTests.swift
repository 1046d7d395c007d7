import Database
import Glibc
import JSON
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("Full and read-only boot partitions", .enabled(if: geteuid() == 0))
struct FullDiskTests {
  let scratch = Scratch()

  init() { LoopDriver.start() }

  @Test(
    "a write on a full disk is an error, keeps the old content and leaves nothing", arguments: [true, false])
  func full(_ isOnBootPartition: Bool) async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write(#"{"uuid":"u"}"#, to: path)
    let file = try await ConfigFile(
      path: path, bootDirectory: isOnBootPartition ? disk.path : "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    disk.fill()
    let error = try await #require(throws: ConfigFileError.self) {
      try await file.update(["hostname": .set(.string(String(repeating: "x", count: 9000)))])
    }
    #expect(error.message.hasPrefix("\(path) cannot be written: "))
    #expect(error.message.hasSuffix("No space left on device"))
    #expect(text(of: path) == #"{"uuid":"u"}"#)
    #expect(file.members["hostname"] == nil)
    #expect(Scratch.names(in: disk.path) == ["config.json", "filler"])
    unlink("\(disk.path)/filler")
    try await file.update(["hostname": .set("y")])
    #expect(text(of: path) == #"{"uuid":"u","hostname":"y"}"#)
  }

  @Test("a boot configuration that cannot be written is not given up")
  func bootConfiguration() async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.txt"
    write(#"{"slug":"raspberrypi4-64","arch":"aarch64"}"#, to: "\(disk.path)/device-type.json")
    write("gpu_mem=16\n", to: path)
    write("{}", to: scratch.file("config.json"))
    let paths = HostPaths(
      .init(
        hostRoot: scratch.file("host"), boot: disk.path, config: scratch.file("config.json"),
        database: scratch.file("database.sqlite")))
    let facts = HostFacts(paths: paths, logger: quiet)
    let file = try await ConfigFile(
      path: paths.config, bootDirectory: "/nowhere", copyPath: scratch.file("copy"), logger: quiet)
    let settings = Settings(file: file, store: try Store.inMemory(), logger: quiet)
    var reports: [String] = []
    let boot = BootConfiguration(paths: paths, facts: facts, settings: settings, logger: quiet) {
      reports.append($1)
    }
    disk.fill()
    let target = ["HOST_CONFIG_gpu_mem": String(repeating: "6", count: 9000)]
    for _ in 0...BootConfiguration.triesPerChange {
      let change = try #require(boot.changes(for: target).first)
      await #expect(throws: BootError.self) { try await boot.apply(change) }
    }
    #expect(text(of: path) == "gpu_mem=16\n")
    unlink("\(disk.path)/filler")
    try await boot.apply(try #require(boot.changes(for: target).first))
    #expect(boot.changes(for: target).isEmpty)
    #expect(!reports.contains { $0.contains("given up") })
    // What was written and does not stay is a try.
    for _ in 0..<BootConfiguration.triesPerChange {
      write("gpu_mem=16\n", to: path)
      guard let change = boot.changes(for: target).first else { break }
      try await boot.apply(change)
    }
    write("gpu_mem=16\n", to: path)
    #expect(boot.changes(for: target).isEmpty)
    #expect(reports.contains { $0.contains("given up after 3 tries") })
  }

  @Test("an interrupted write is read where it cannot be finished")
  func readOnly() async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write("{}", to: path)
    let content = #"{"uuid":"new"}"#
    write(content, to: "\(disk.path)/.config.json.0badcafe.\(MD5.hexadecimal(Array(content.utf8))).md5sum")
    try #require(disk.makeReadOnly())
    let file = try await ConfigFile(
      path: path, bootDirectory: disk.path, copyPath: scratch.file("copy"), logger: quiet)
    #expect(file.members["uuid"] == "new")
    #expect(text(of: path) == "{}")
  }
}
