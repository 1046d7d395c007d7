import CSQLite
import Database
import TestSupport
import Testing

@Suite("Memory of the store")
struct MemoryTests {
  let scratch = Scratch()

  @Test("an open store with twenty apps holds less than 256 KiB")
  func small() throws {
    let before = sqlite3_memory_used()
    let store = try Store.open(at: scratch.file("d"), logger: quiet)
    for round in 0..<10 {
      let apps = (0..<20).map { number in
        var app = app("uuid\(number)", id: number)
        app.services = "[" + String(repeating: " ", count: 4000) + "\(round)]"
        return app
      }
      try store.targets.replace(apps, source: "local", deviceName: "d", deviceConfig: [:])
      for number in 0..<20 { try store.images.save(image("image\(number):\(round)")) }
      #expect(try store.targets.apps(source: "local").count == 20)
    }
    #expect(sqlite3_memory_used() - before < 256 * 1024)
  }
}
