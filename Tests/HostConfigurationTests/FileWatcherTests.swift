import Database
import EventLoop
import Glibc
import HostConfiguration
import JSON
import TestSupport
import Testing

@Suite("Edits of config.json by others")
struct FileWatcherTests {
  let scratch = Scratch()

  /// Runs turns of the loop until the events of the kernel, which are there already, are taken.
  func turn() { for _ in 0..<3 { EventLoop.shared.turn(mayWait: false) } }

  @Test("a write in place, a rename over the file and nothing else are told")
  func told() throws {
    write("1", to: scratch.file("config.json"))
    var calls = 0
    let watcher = try FileWatcher(scratch.file("config.json")) { calls += 1 }
    write("2", to: scratch.file("config.json"))
    turn()
    #expect(calls == 1)
    write("3", to: scratch.file("config.json.other"))
    write("3", to: scratch.file("config"))
    turn()
    #expect(calls == 1)
    rename(scratch.file("config"), scratch.file("config.json"))
    turn()
    #expect(calls == 2)
    watcher.cancel()
    write("4", to: scratch.file("config.json"))
    turn()
    #expect(calls == 2)
  }

  @Test("several writes at once make one call")
  func coalesced() throws {
    var calls = 0
    let watcher = try FileWatcher(scratch.file("f")) { calls += 1 }
    for number in 0..<300 { write("\(number)", to: scratch.file("f")) }
    turn()
    #expect(calls == 1)
    withExtendedLifetime(watcher) {}
  }

  @Test("a missing directory is an error")
  func missing() throws {
    let error = try #require(throws: SystemError.self) { _ = try FileWatcher(scratch.file("no/f")) {} }
    #expect(error == SystemError(code: ENOENT, call: "inotify_add_watch"))
  }

  @Test("settings follow the file")
  func settingsFollow() async throws {
    LoopDriver.start()
    let path = scratch.file("config.json")
    write(#"{"hostname":"a"}"#, to: path)
    let file = try await ConfigFile(
      path: path, bootDirectory: scratch.path, copyPath: scratch.file("c"), logger: quiet)
    let settings = Settings(file: file, store: try Store.inMemory(), logger: quiet)
    var seen: [Settings.Change] = []
    settings.onChange(of: [.hostname]) { seen.append($0) }
    let watcher = try FileWatcher(path) { Task { await settings.reloadConfigFile() } }
    write(#"{"hostname":"b"}"#, to: path)
    #expect(await eventually { settings.string(.hostname) == "b" })
    try await settings.set([.hostname: "c"])
    try await Task.sleep(for: .milliseconds(50))
    #expect(seen == [[.hostname: "b"], [.hostname: "c"]])
    withExtendedLifetime(watcher) {}
  }
}
