import Database
import JSON
import TestSupport
import Testing

@testable import HostConfiguration

struct ByteTextTests {
  @Test func everySequenceOfBytesComesBackAsItWas() {
    var generator = SystemRandomNumberGenerator()
    // Random bytes seldom make a scalar: pieces of some do, and of what stands for a byte.
    let pieces: [[UInt8]] =
      ["a", "\n", "\r\n", "é", "€", "\u{1F600}", "\u{10FF00}", "\u{10FF80}", "\u{10FFE9}", "\u{10FFFF}"].map {
        Array($0.utf8)
      } + [
        [0xE9], [0xC3], [0xA9], [0xF4, 0x8F], [0xED, 0xA0, 0x80], [0xC0, 0x80], [0xF5], [0xFF, 0xFE], [0],
      ]
    for number in 0..<5000 {
      let bytes: [UInt8] =
        number % 2 == 0
        ? (0..<Int.random(in: 0...40, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
        : (0..<Int.random(in: 0...12, using: &generator)).flatMap { _ in
          pieces.randomElement(using: &generator) ?? []
        }
      #expect(ByteText.encode(ByteText.decode(bytes)) == bytes)
    }
  }

  @Test func textIsItself() {
    for text in ["", "gpu_mem=16\r\n", "Größe €", "\u{1F600}", "\u{10FF00}", "\u{F0000}\u{100000}"] {
      #expect(ByteText.decode(Array(text.utf8)) == text)
      #expect(ByteText.encode(text) == Array(text.utf8))
    }
    #expect(ByteText.decode([0x61, 0xE9, 0x3D]) == "a\u{10FFE9}=")
  }

  @Test(arguments: [
    ("config.txt", "gpu_mem", "16", "128", "gpu_mem=16\n"),
    ("extlinux", "isolcpus", "3", "2", "DEFAULT a\nLABEL a\n  APPEND x=~ isolcpus=3\n"),
    ("extra_uEnv", "fdt", "a.dtb", "b.dtb", "custom_fdt_file=a.dtb\n"),
  ])
  func aChangeOfOneOptionLeavesALatinComment(
    name: String, option: String, old: String, new: String, lines: String
  ) async throws {
    LoopDriver.start()
    let scratch = Scratch()
    let path = scratch.file("file.txt")
    // ~ is where a byte of Latin-1 stands.
    func content(_ value: String) -> [UInt8] {
      ("# Gr~~e des Speichers\r\n" + lines.replacing(old, with: value) + "#~ ü").utf8.map {
        $0 == UInt8(ascii: "~") ? 0xDF : $0
      }
    }
    write(content(old), to: path)
    let backEnd: any BootBackEnd =
      switch name {
      case "config.txt": ConfigTextBackEnd(path: path, deviceType: "raspberrypi4-64", logger: quiet)
      case "extlinux": ExtlinuxBackEnd(path: path)
      default: ExtraUEnvBackEnd(path: path, logger: quiet)
      }
    var options = try backEnd.read()
    #expect(options[option] == .text(old))
    options[option] = .text(new)
    try await backEnd.write(options)
    var expected = content(new)
    // A file of U-Boot's ends with its last line's end.
    if name == "extra_uEnv" { expected += "\r\n".utf8 }
    #expect(contents(of: path) == expected)
  }

  @Test func aTextThatWouldReadBackAsAnotherIsNotTaken() {
    let backEnd = ConfigTextBackEnd(path: "/nowhere", deviceType: "raspberrypi4-64", logger: quiet)
    let name = "HOST_CONFIG_x"
    #expect(backEnd.target([name: "\u{10FFE9}"], current: [:]).options == ["x": .text("\u{10FFE9}")])
    let refused = backEnd.target([name: "\u{10FFC3}\u{10FFA9}"], current: [:])
    #expect(refused.options.isEmpty && refused.problems.count == 1)
  }

  @Test func aProxysPasswordIsNoLessAPasswordForItsEncoding() async throws {
    LoopDriver.start()
    let scratch = Scratch()
    write("{}", to: scratch.file("config.json"))
    let paths = HostPaths(
      .init(hostRoot: scratch.file("host"), boot: scratch.file("boot"), config: scratch.file("config.json")))
    let file = try await ConfigFile(
      path: paths.config, bootDirectory: "/nowhere", copyPath: scratch.file("copy"), logger: quiet)
    let files = HostConfigFiles(
      paths: paths, settings: Settings(file: file, store: try Store.inMemory(), logger: quiet), logger: quiet)
    try DurableFile.makeDirectories(for: paths.redsocks)
    write(
      Array("redsocks {\n type = socks5;\n ip = a;\n port = 1;\n login = \"b\";\n password = \"gr".utf8)
        + [0xFC] + Array("n\";\n}\n".utf8), to: paths.redsocks)
    let request = try HostConfigRequest(parsing: ["network": ["proxy": ["ip": "c"]]])
    try await files.apply(try files.change(for: request))
    let written = contents(of: paths.redsocks)
    let line =
      Array("\tip = c;\n\tport = 1;\n\tlogin = \"b\";\n\tpassword = \"gr".utf8) + [0xFC]
      + Array("n\";\n".utf8)
    #expect(written.indices.contains { written[$0...].starts(with: line) })
  }
}
