import HTTPClient
import JSON
import TestSupport
import Testing

@testable import Engine

@Suite struct PullProgressTests {
  private func percents(_ flavor: VersionInfo.Flavor, _ lines: [String]) throws -> [Int] {
    var progress = PullProgress(flavor: flavor)
    return try lines.map { line in
      progress.consume(PullEvent(try JSON(parsing: line)))
      return progress.percent
    }
  }

  private func layer(_ id: String, _ status: String, _ current: Int? = nil, of total: Int? = nil) -> String {
    guard let current, let total else {
      return #"{"status":"\#(status)","progressDetail":{},"id":"\#(id)"}"#
    }
    return
      #"{"status":"\#(status)","progressDetail":{"current":\#(current),"total":\#(total)},"progress":"[=> ]","id":"\#(id)"}"#
  }

  @Test func dockerCountsTheMeanOfDownloadsAndExtractions() throws {
    let result = try percents(
      .docker,
      [
        #"{"status":"Pulling from library/x","id":"latest"}"#,
        layer("a", "Pulling fs layer"),
        layer("b", "Pulling fs layer"),
        layer("b", "Waiting"),
        layer("a", "Downloading", 1_000_000, of: 4_000_000),
        layer("a", "Downloading", 4_000_000, of: 4_000_000),
        layer("a", "Verifying Checksum"),
        layer("a", "Download complete"),
        layer("b", "Downloading", 1_000_000, of: 2_000_000),
        layer("b", "Download complete"),
        layer("a", "Extracting", 2_000_000, of: 4_000_000),
        layer("a", "Pull complete"),
        layer("b", "Extracting", 2_000_000, of: 2_000_000),
        layer("b", "Pull complete"),
        #"{"status":"Digest: sha256:00"}"#,
        #"{"status":"Status: Downloaded newer image for x:latest"}"#,
      ])
    #expect(result == [0, 0, 0, 0, 6, 25, 25, 25, 37, 50, 62, 75, 100, 100, 100, 100])
  }

  @Test func smallLayersAreLeftOut() throws {
    let result = try percents(
      .docker,
      [
        layer("big", "Pulling fs layer"),
        layer("tiny", "Pulling fs layer"),
        layer("tiny", "Downloading", 500, of: 99_999),
        layer("big", "Downloading", 5_000_000, of: 10_000_000),
        layer("tiny", "Extracting", 500, of: 99_999),
        layer("big", "Downloading", 10_000_000, of: 10_000_000),
        layer("big", "Extracting", 5_000_000, of: 10_000_000),
        layer("tiny", "Pull complete"),
      ])
    #expect(result == [0, 0, 0, 25, 25, 50, 75, 75])
  }

  @Test func layersThatExistAreDone() throws {
    let result = try percents(
      .docker,
      [
        layer("a", "Already exists"),
        layer("b", "Pulling fs layer"),
        layer("b", "Downloading", 200_000, of: 200_000),
      ])
    #expect(result == [100, 100, 100])
    let other = try percents(
      .docker,
      [
        layer("b", "Pulling fs layer"),
        layer("a", "Already exists"),
        layer("b", "Downloading", 1_000_000, of: 2_000_000),
      ])
    #expect(other == [0, 50, 62])
  }

  @Test func anImageThatIsUpToDateIsComplete() throws {
    let result = try percents(
      .docker, [#"{"status":"Status: Image is up to date for 127.0.0.1:5000/x:1"}"#])
    #expect(result == [100])
  }

  @Test func balenaEngineSumsUpUnderTotal() throws {
    let result = try percents(
      .balena,
      [
        layer("a", "Pulling fs layer"),
        layer("a", "Downloading", 900, of: 1000),
        layer("Total", "Downloading", 333, of: 1000),
        layer("Total", "Downloading", 200, of: 1000),
        layer("Total", "Extracting", 999, of: 1000),
        layer("Total", "Extracting", 0, of: 0),
        #"{"status":"Status: Downloaded newer image for x:latest"}"#,
        layer("Total", "Extracting", 1000, of: 1000),
      ])
    #expect(result == [0, 0, 33, 33, 99, 99, 99, 100])
  }

  @Test(arguments: 0..<2000) func noOrderOfLinesMakesItFallOrLeaveItsRange(seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    var progress = PullProgress(flavor: seed % 5 == 0 ? .balena : .docker)
    let statuses = [
      "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting",
      "Pull complete", "Already exists", "Retrying in 3 seconds", "",
    ]
    var before = 0
    for _ in 0..<200 {
      progress.consume(
        PullEvent(
          id: ["a", "b", "c", "d", "Total", nil].randomElement(using: &random) ?? nil,
          status: statuses.randomElement(using: &random) ?? "",
          current: Bool.random(using: &random) ? .random(in: -1...3_000_000, using: &random) : nil,
          total: Bool.random(using: &random) ? .random(in: -1...3_000_000, using: &random) : nil))
      guard progress.percent >= before, progress.percent <= 100 else {
        Issue.record("from \(before) to \(progress.percent)")
        return
      }
      before = progress.percent
    }
  }
}

@Suite struct EncodingTests {
  @Test(arguments: [
    (
      "registry2.balena-cloud.com/v2/abc", "registry2.balena-cloud.com/v2/abc", "latest",
      "registry2.balena-cloud.com"
    ),
    ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b", "v1", "127.0.0.1:5000"),
    ("localhost/x", "localhost/x", "latest", "localhost"),
    ("alpine", "alpine", "latest", nil),
    ("library/alpine:3.19", "library/alpine", "3.19", nil),
    ("alpine:3.19", "alpine", "3.19", nil),
    ("host:5000/a@sha256:00ff", "host:5000/a", "sha256:00ff", "host:5000"),
    ("host:5000/a:tag@sha256:00ff", "host:5000/a", "sha256:00ff", "host:5000"),
    ("example.com:80", "example.com", "80", nil),
  ]) func aReferenceIsSplitForAPull(name: String, repository: String, tag: String, registry: String?) {
    let reference = PullReference(name)
    #expect(reference.repository == repository)
    #expect(reference.tag == tag)
    #expect(reference.registry == registry)
  }

  @Test func credentialsAreAJSONObject() {
    let password = RegistryCredentials.password(username: "d_1", password: "k", serverAddress: "r:1")
    #expect(
      password.header
        == Base64.encodeURLSafe(
          Array(#"{"username":"d_1","password":"k","serveraddress":"r:1"}"#.utf8)))
    #expect(
      RegistryCredentials.token("t").header == Base64.encodeURLSafe(Array(#"{"registrytoken":"t"}"#.utf8)))
  }

  @Test func filtersAreSortedAndEmptyOnesLeftOut() {
    #expect(filterParameter(["b": ["1"], "a": ["x", "y"], "c": []])?.1 == #"{"a":["x","y"],"b":["1"]}"#)
    #expect(filterParameter(["c": []]) == nil)
  }

  @Test(arguments: [
    ("unix:///run/docker.sock", EngineEndpoint.unix("/run/docker.sock")),
    ("/run/balena-engine.sock", .unix("/run/balena-engine.sock")),
    ("tcp://127.0.0.1:2375", .tcp("127.0.0.1:2375")),
    ("http://host:1/", .tcp("host:1")), ("unix://relative", nil), ("tcp://", nil), ("docker.sock", nil),
  ]) func anEndpointIsReadFromItsText(text: String, endpoint: EngineEndpoint?) {
    #expect(EngineEndpoint(text) == endpoint)
  }

  @Test(arguments: 0..<500) func linesAreTheSameHoweverTheBytesArrive(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let lines = (0..<10).map { _ in
      String(repeating: "x", count: .random(in: 1...40, using: &random))
    }
    let ends = ["\n", "\r\n", "\n\n"]
    let text = lines.map { $0 + (ends.randomElement(using: &random) ?? "\n") }.joined() + "tail"
    var rest = Array(text.utf8)[...]
    var buffer = LineBuffer(limit: 100)
    var seen: [String] = []
    while !rest.isEmpty {
      let count = min(rest.count, .random(in: 1...25, using: &random))
      buffer.append(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
      while let line = try buffer.next() { seen.append(String(decoding: line, as: UTF8.self)) }
    }
    #expect(seen == lines)
    #expect(buffer.rest() == Array("tail".utf8))
  }

  @Test func aLineWithoutEndIsRefused() {
    var buffer = LineBuffer(limit: 10)
    buffer.append([UInt8](repeating: 1, count: 11))
    #expect(throws: LineBuffer.LineTooLong.self) { try buffer.next() }
  }

  @Test func anErrorWithoutJSONKeepsItsText() {
    #expect(EngineError(status: 502, body: Array("Bad gateway".utf8), call: "x").message == "Bad gateway")
    #expect(EngineError(status: 500, body: [], call: "x").message == "no explanation given")
    #expect(EngineError(status: 500, body: Array(#"{"message":"m"}"#.utf8), call: "x").message == "m")
  }

  @Test func onlyAnEngineThatIsAwayHasNoAnswer() {
    let kinds: [EngineError.Kind] = [
      .status(500), .reported, .unreachable, .timeout, .cancelled, .interrupted, .malformedAnswer,
      .invalidCall,
    ]
    let away = kinds.filter { EngineError(kind: $0, call: "x", message: "").isWithoutAnswer }
    #expect(away == [.unreachable, .timeout, .interrupted])
  }

  @Test func eventsOfOldAndNewEnginesReadTheSame() throws {
    let old = try #require(
      EngineEvent(JSON(parsing: #"{"status":"die","id":"c1","from":"x","time":5}"#)))
    #expect(old.action == "die")
    #expect(old.id == "c1")
    #expect(old.type == "container")
    #expect(old.time == 5_000_000_000)
    let new = try #require(
      EngineEvent(
        JSON(
          parsing:
            #"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":"1"}},"time":5,"timeNano":5000000001}"#
        )))
    #expect(new.action == "die")
    #expect(new.id == "c1")
    #expect(new.attributes == ["exitCode": "1"])
    #expect(new.time == 5_000_000_001)
  }

  @Test func reconnectionsPauseLongerUpToHalfAMinute() {
    #expect(EngineEvents.pause(afterFailures: 1, random: 0) == .seconds(1))
    #expect(EngineEvents.pause(afterFailures: 2, random: 0) == .seconds(2))
    #expect(EngineEvents.pause(afterFailures: 5, random: 0) == .seconds(16))
    #expect(EngineEvents.pause(afterFailures: 6, random: 0) == .seconds(30))
    #expect(EngineEvents.pause(afterFailures: 1_000_000, random: 0) == .seconds(30))
    #expect(EngineEvents.pause(afterFailures: 1, random: 1) == .milliseconds(750))
  }

  @Test(arguments: ["balena-engine", "balena", "balaena"]) func balenaEngineIsRecognised(name: String) throws
  {
    let version = try #require(
      VersionInfo(["Version": "20.10.43", "ApiVersion": "1.41", "Engine": .string(name)]))
    #expect(version.flavor == .balena)
  }
}

@Suite struct BoundTests {
  @Test func aGiganticErrorMessageIsCutShort() {
    let error = EngineError(kind: .reported, call: "c", message: String(repeating: "x", count: 1 << 20))
    #expect(error.message.utf8.count <= EngineError.bodyLimit + 3)
  }

  @Test func anEventOfAnImpossibleTimeDoesNotHarm() throws {
    let line = try JSON(parsing: #"{"Action":"die","time":9223372036854775807}"#)
    let event = try #require(EngineEvent(line))
    #expect(event.time == 0)
  }

  @Test func theBytesOfAPullAreThoseOfItsLayers() {
    var progress = PullProgress(flavor: .docker)
    progress.consume(PullEvent(id: "a", status: "Downloading", current: 10, total: 500_000))
    progress.consume(PullEvent(id: "b", status: "Downloading", current: 100, total: 1000))
    #expect(progress.bytesReceived == 110)
    progress.consume(PullEvent(id: "a", status: "Download complete"))
    progress.consume(PullEvent(id: "a", status: "Extracting", current: 1, total: 500_000))
    progress.consume(PullEvent(id: "c", status: "Already exists"))
    #expect(progress.bytesReceived == 500_100)
  }

  @Test func layersBeyondAllReasonAreNotRemembered() {
    var progress = PullProgress(flavor: .docker)
    for number in 0..<5000 {
      progress.consume(PullEvent(id: "\(number)", status: "Downloading", current: 1, total: 2))
    }
    #expect(progress.bytesReceived == 1000)
  }
}
