import JSON
import TestSupport
import Testing

@testable import Model

@Suite struct `Command splitting` {
  @Test(arguments: Fixture.goldenCases("command-splitting.json"))
  func `a text becomes its arguments`(golden: GoldenCase) {
    let text = golden.json["about"]?.stringValue ?? ""
    #expect(CommandSplitter.split(text) == golden.json["is"]?.stringList)
  }

  @Test func `any text is split and no operator or blank is left unquoted`() {
    var generator = SeededGenerator(seed: 7)
    let letters = Array("ab \\\"'$#|&;()<>\n*?é")
    for _ in 0..<5000 {
      let text = String(
        (0..<Int.random(in: 0...40, using: &generator)).compactMap { _ in
          letters.randomElement(using: &generator)
        })
      let plain = text.filter { $0 != "\\" && $0 != "\"" && $0 != "'" }
      let operators = [
        "<<<", "||", "&&", ";;", "|&", "<(", ">>", ">&", "<&", "&", ";", "(", ")", "|", "<", ">",
      ]
      for argument in CommandSplitter.split(plain) where !operators.contains(argument) {
        #expect(!argument.isEmpty && !argument.contains { " \n|&;()<>".contains($0) }, "\(plain)")
      }
      _ = CommandSplitter.split(text)
    }
  }
}

@Suite struct `Composition keys` {
  @Test(arguments: [
    ("mem_limit", "memLimit"), ("mem-limit", "memLimit"), ("memLimit", "memLimit"), ("Mem Limit", "memLimit"),
    ("MEM_LIMIT", "memLimit"), ("_mem__limit_", "memLimit"), ("ipv4_address", "ipv4Address"),
    ("ipv4Address", "ipv4Address"), ("x-a", "xA"), ("HTTPServer", "httpServer"), ("", ""), ("é_b", "éB"),
  ])
  func `a key has one spelling`(key: String, name: String) {
    #expect(Composition.camelCase(key) == name)
  }
}

@Suite struct `Ports` {
  @Test(arguments: [
    ("80", "80:80/tcp"), ("8080:80", "8080:80/tcp"), ("3000-3005", "3000-3005:3000-3005/tcp"),
    ("8000-8001:9000-9001/udp", "8000-8001:9000-9001/udp"), ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
    ("::1:80:80", "::1:80:80/tcp"), ("80/udp", "80:80/udp"),
  ])
  func `a definition is understood`(text: String, meaning: String) throws {
    #expect(try PortRange(parsing: text).description == meaning)
  }

  @Test(arguments: ["8000-9000:80", "80:8000-8010", "127.0.0.1::80", ":80"])
  func `ranges that do not match are refused`(text: String) {
    #expect(throws: ModelError("Range for internal and external ports does not match: \(text)")) {
      try PortRange(parsing: text)
    }
  }

  @Test(arguments: [
    "1.2.3.4:80", "80/sctp", "[::1]:80:80", "::80", "80 ", " 80", "", "a", "80/TCP", "host:80:80", "80-",
    "-80",
    "99999999999999999999", "80:80:", "٨٠",
  ])
  func `other texts are refused`(text: String) {
    #expect(throws: ModelError("Could not parse port definition: \(text)")) { try PortRange(parsing: text) }
  }

  @Test func `a range that runs backwards is an error at creation only`() throws {
    let service = try Fixture.service(["composition": ["ports": ["90-80"]]]).service
    #expect(throws: ModelError("Incorrect port range! The end port cannot be larger than the start port!")) {
      try service.createRequest(containerIds: [:], deviceName: "")
    }
  }

  @Test func `a range of millions of ports costs nothing and is refused at creation`() throws {
    let service = try Fixture.service(["composition": ["ports": ["1-999999999"]]]).service
    #expect(throws: ModelError.self) { try service.createRequest(containerIds: [:], deviceName: "") }
  }

  @Test func `however a set of ports is cut into ranges, its normal form is one`() throws {
    var generator = SeededGenerator(seed: 3)
    for _ in 0..<1000 {
      var ports: Set<Int> = []
      for _ in 0..<Int.random(in: 1...12, using: &generator) {
        ports.insert(Int.random(in: 1...20, using: &generator))
      }
      let single = ports.map {
        PortRange(hostPorts: .init(first: $0 + 5, last: $0 + 5), containerPorts: .init(first: $0, last: $0))
      }
      let normal = PortRange.normalized(single.shuffled(using: &generator))
      var pieces = normal
      for range in normal where range.containerPorts.last > range.containerPorts.first {
        let cut = Int.random(in: range.containerPorts.first...range.containerPorts.last, using: &generator)
        pieces.append(
          PortRange(
            hostPorts: .init(first: cut + 5, last: range.hostPorts.last),
            containerPorts: .init(first: cut, last: range.containerPorts.last)))
      }
      #expect(PortRange.normalized(pieces.shuffled(using: &generator)) == normal)
      #expect(normal.reduce(0) { $0 + $1.containerPorts.last - $1.containerPorts.first + 1 } == ports.count)
    }
  }
}

@Suite struct `Quantities in compositions` {
  @Test(arguments: [
    ("512", 512), ("1b", 1), ("1k", 1024), ("1KB", 1024), ("512m", 536_870_912), ("256MB", 268_435_456),
    ("1g", 1_073_741_824), ("0", 0),
  ])
  func `memory in units`(text: String, bytes: Int) {
    #expect(Quantities.memory(.string(text)) == bytes)
  }

  @Test(arguments: ["1.5g", "1 g", "", "g", "1t", "1mib", "-1", "99999999999g", "1gg", "٣"])
  func `memory that is none`(text: String) {
    #expect(Quantities.memory(.string(text)) == nil)
  }

  @Test(arguments: [
    ("1m30s", 90_000), ("1.5m", 90_000), ("0", 0), ("500ms", 500), ("999us", 0), ("1000µs", 1),
    ("1000000ns", 1),
    ("1h 2m, 3s", 3_723_000), ("1d", 86_400_000), ("1w", 604_800_000), ("30 s", 30_000),
  ])
  func `durations in units`(text: String, milliseconds: Int) throws {
    #expect(try Quantities.milliseconds(.string(text)) == milliseconds)
  }

  @Test(arguments: ["", "10", "x", "1.2.3s", "-1s", "5s6", "99999999999999w"])
  func `durations that are none`(text: String) {
    #expect(throws: ModelError("invalid duration")) { try Quantities.milliseconds(.string(text)) }
  }

  @Test func `an unknown unit is named`() {
    #expect(throws: ModelError("invalid unit: y")) { try Quantities.milliseconds("1y") }
  }
}

@Suite struct `Value coercions` {
  @Test(
    arguments: [
      (200, 200), ("200", 200), ("200.00", 200), ("1.", 1), ("007", 7), (-3, -3), ([5], 5), ("-0", 0),
    ] as [(JSON, Int)])
  func `an integer`(value: JSON, number: Int) {
    #expect(Coercions.integer(value) == number)
  }

  @Test(
    arguments: [
      "", "foo", "45x", "50.55", "1e3", " 1", "+1", "0x11", "0b11", "0o11", true, nil, [:], [], "-", ".",
      "--1", "1.0.0",
      "99999999999999999999", "١",
    ] as [JSON])
  func `no integer`(value: JSON) {
    #expect(Coercions.integer(value) == nil)
  }

  @Test(arguments: [true, 1, "1", "true", "TRUE", "On"] as [JSON])
  func `truthy`(value: JSON) {
    #expect(Coercions.isTruthy(value) && !Coercions.isFalsey(value))
  }

  @Test(arguments: [false, 0, "0", "false", "OFF"] as [JSON])
  func `falsey`(value: JSON) {
    #expect(Coercions.isFalsey(value) && !Coercions.isTruthy(value))
  }

  @Test(arguments: ["yes", 10, [:], "", nil, " true"] as [JSON])
  func `neither`(value: JSON) {
    #expect(!Coercions.isTruthy(value) && !Coercions.isFalsey(value))
  }
}

@Suite struct `Image references` {
  private nonisolated static let digest = "sha256:" + String(repeating: "ab", count: 32)

  @Test(arguments: [
    ("web", "web:latest"), ("a/b:1", "a/b:1"), ("localhost/x", "localhost/x:latest"),
    ("registry:5000/a/b", "registry:5000/a/b:latest"), ("r.io/a:1@\(digest)", "r.io/a@\(digest)"),
    ("local_image_web:latest", "local_image_web:latest"),
  ])
  func `a reference has one normal form`(text: String, normal: String) throws {
    let reference = try ImageReference(parsing: text)
    #expect(reference.normalized == normal)
    #expect(try ImageReference(parsing: normal).normalized == normal)
  }

  @Test func `a registry is what looks like a host`() throws {
    #expect(
      try ImageReference(parsing: "registry2.balena-cloud.com/v2/a").registry == "registry2.balena-cloud.com")
    #expect(try ImageReference(parsing: "localhost/a").registry == "localhost")
    #expect(try ImageReference(parsing: "library/a").registry == nil)
  }

  @Test(arguments: ["", " ", "a b"])
  func `a text that is no name is refused`(text: String) {
    #expect(throws: ModelError("Could not parse the image: \(text)")) { try ImageReference(parsing: text) }
  }

  @Test(arguments: ["a@sha256:12", "a:", ":1", "r.io/", "a@x"])
  func `a name of another form is refused`(text: String) {
    let expected = "Invalid image name, expected [domain.tld/]repo/image[:tag][@digest] format, got: \(text)"
    #expect(throws: ModelError(expected)) { try ImageReference(parsing: text) }
  }

  @Test func `equal digests are the same image under any name`() throws {
    let a = try ImageReference(parsing: "r.io/a@\(Self.digest)")
    let b = try ImageReference(parsing: "b:1@\(Self.digest)")
    #expect(a.isSameImage(as: b) && a != b)
    #expect(!a.isSameImage(as: try ImageReference(parsing: "r.io/a")))
  }
}
