import Glibc
import HostConfiguration
import TestSupport
import Testing

@Suite("Durable files")
struct DurableFileTests {
  let scratch = Scratch()

  @Test("a file keeps its mode unless it is a secret of our own")
  func modes() throws {
    let path = scratch.file("file")
    write("old", to: path)
    chmod(path, 0o644)
    try DurableFile.write(Array("new".utf8), to: path)
    #expect(mode(of: path) == 0o644)
    try DurableFile.write(Array("newer".utf8), to: path, keepsMode: false)
    #expect(mode(of: path) == 0o600)
    #expect(text(of: path) == "newer")
  }

  @Test("a secret that others left readable, and what a killed writer left of it, are put in order")
  func securing() {
    let path = scratch.file("file")
    write("old", to: path)
    chmod(path, 0o644)
    write("begun", to: path + ".new")
    DurableFile.secure(path)
    #expect(mode(of: path) == 0o600)
    #expect(scratch.names == ["file"])
    DurableFile.secure(scratch.file("none"))
    #expect(scratch.names == ["file"])
  }
}
