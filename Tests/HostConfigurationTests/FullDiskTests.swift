import Glibc
import JSON
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("Full and read-only boot partitions", .enabled(if: geteuid() == 0))
struct FullDiskTests {
  let scratch = Scratch()

  @Test(
    "a write on a full disk is an error, keeps the old content and leaves nothing", arguments: [true, false])
  func full(_ isOnBootPartition: Bool) throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write(#"{"uuid":"u"}"#, to: path)
    let file = try ConfigFile(
      path: path, bootDirectory: isOnBootPartition ? disk.path : "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    disk.fill()
    let error = try #require(throws: ConfigFileError.self) {
      try file.update(["hostname": .set(.string(String(repeating: "x", count: 9000)))])
    }
    #expect(error.message.hasPrefix("\(path) cannot be written: "))
    #expect(error.message.hasSuffix("No space left on device"))
    #expect(text(of: path) == #"{"uuid":"u"}"#)
    #expect(file.members["hostname"] == nil)
    #expect(Scratch.names(in: disk.path) == ["config.json", "filler"])
    unlink("\(disk.path)/filler")
    try file.update(["hostname": .set("y")])
    #expect(text(of: path) == #"{"uuid":"u","hostname":"y"}"#)
  }

  @Test("an interrupted write is read where it cannot be finished")
  func readOnly() throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write("{}", to: path)
    let content = #"{"uuid":"new"}"#
    write(content, to: "\(disk.path)/.config.json.0badcafe.\(MD5.hexadecimal(Array(content.utf8))).md5sum")
    try #require(disk.makeReadOnly())
    let file = try ConfigFile(
      path: path, bootDirectory: disk.path, copyPath: scratch.file("copy"), logger: quiet)
    #expect(file.members["uuid"] == "new")
    #expect(text(of: path) == "{}")
  }
}
