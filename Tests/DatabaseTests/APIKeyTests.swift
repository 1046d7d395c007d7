import Database
import TestSupport
import Testing

@Suite("API keys")
struct APIKeyTests {
  let scratch = Scratch()
  func open() throws -> Store { try Store.open(at: scratch.file("d"), logger: quiet) }

  @Test("a key has 64 lower-case hexadecimal characters and is never made twice")
  func form() throws {
    let store = try open()
    var seen: Set<String> = []
    for number in 0..<200 {
      let key = try store.keys.key(app: number + 1, service: "web")
      #expect(key.count == 64 && key.allSatisfy { $0.isHexDigit && !$0.isUppercase })
      seen.insert(key)
    }
    #expect(seen.count == 200)
  }

  @Test("keys survive a restart")
  func survive() throws {
    let keys = try { () throws in
      let store = try open()
      return [try store.keys.globalKey(), try store.keys.key(app: 5, service: "web")]
    }()
    let store = try open()
    #expect([try store.keys.globalKey(), try store.keys.key(app: 5, service: "web")] == keys)
    #expect(store.keys.find(keys[0])?.isGlobal == true)
    #expect(store.keys.find(keys[1])?.covers(app: 5) == true)
    #expect(store.keys.find(keys[1])?.covers(app: 6) == false)
    #expect(store.keys.find(keys[0])?.covers(app: 6) == true)
  }

  @Test("a key is kept for the same scopes in any order, and replaced for others")
  func scopes() throws {
    let store = try open()
    let first = try store.keys.key(app: 1, service: "web", scopes: [.app(1), .app(2)])
    #expect(try store.keys.key(app: 1, service: "web", scopes: [.app(2), .app(1)]) == first)
    let second = try store.keys.key(app: 1, service: "web", scopes: [.app(1)])
    #expect(second != first)
    #expect(store.keys.find(first) == nil)
    #expect(store.keys.find(second)?.scopes == [.app(1)])
  }

  @Test("a regenerated key keeps its scopes, and the old one is refused at once")
  func regenerate() throws {
    let store = try open()
    let other = try store.keys.key(app: 2, service: "web")
    let old = try store.keys.key(app: 1, service: "web", scopes: [.app(1), .app(9)])
    let fresh = try #require(try store.keys.regenerate(old))
    #expect(fresh.scopes == [.app(1), .app(9)])
    #expect(store.keys.find(old) == nil)
    #expect(store.keys.find(fresh.key) == fresh)
    #expect(store.keys.find(other) != nil)
    #expect(try store.keys.regenerate(old) == nil)
    #expect(store.keys.all.count == 2)
  }

  @Test("the regenerated global key has the global scope")
  func regenerateGlobal() throws {
    let store = try open()
    let old = try store.keys.globalKey()
    let fresh = try #require(try store.keys.regenerate(old))
    #expect(fresh.isGlobal && fresh.scopes == [.global])
    #expect(try store.keys.globalKey() == fresh.key)
  }

  @Test("only the very text of a key is accepted", arguments: 0..<64)
  func oneCharacterOff(_ position: Int) throws {
    let store = try Store.inMemory()
    let key = try store.keys.globalKey()
    var bytes = Array(key.utf8)
    bytes[position] = bytes[position] == 0x61 ? 0x62 : 0x61
    #expect(store.keys.find(bytes) == nil)
    #expect(store.keys.find(String(key.prefix(position))) == nil)
    #expect(store.keys.find(key + key.prefix(position + 1)) == nil)
    #expect(store.keys.find(key) != nil)
  }

  @Test("a key shows in no description")
  func noLeak() throws {
    let store = try open()
    let key = try store.keys.globalKey()
    let found = try #require(store.keys.find(key))
    var dumped = ""
    dump(found, to: &dumped)
    for text in ["\(found)", String(reflecting: found), dumped] { #expect(!text.contains(key)) }
  }

  @Test("keys and scopes of a former agent stay valid, whatever their length")
  func formerKeys() throws {
    do {
      let connection = try Connection(.file(scratch.file("d")))
      try connection.execute(
        """
        CREATE TABLE apiSecret (id INTEGER PRIMARY KEY, appId INTEGER, serviceName, key, scopes);
        INSERT INTO apiSecret VALUES (1, 0, NULL, '0123456789abcdef', '[{"type":"global"}]'),
          (2, 7, 'web', 'k', '[{"type":"app","appId":7},{"type":"other"}]'), (3, 7, 'bad', 'b', 'not json');
        """)
    }
    let store = try open()
    #expect(store.keys.find("0123456789abcdef")?.isGlobal == true)
    #expect(store.keys.find("k")?.scopes == [.app(7)])
    #expect(try store.keys.key(app: 7, service: "web") == "k")
    #expect(store.keys.find("b")?.scopes == [])
  }
}
