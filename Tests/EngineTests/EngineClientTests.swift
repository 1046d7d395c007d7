import EventLoop
import Glibc
import HTTPClient
import JSON
import TestSupport
import Testing

@testable import Engine

/// Against a real engine and a real registry.
@Suite(.sharedEngine, .serialized) struct EngineClientTests {
  let fixture: EngineFixture
  let engine: EngineClient

  init() throws {
    fixture = try EngineFixture.require()
    engine = fixture.engine
  }

  /// A container of the test image, removed by the caller.
  private func create(_ name: String, _ members: JSONObject = [:]) async throws -> CreatedContainer {
    var body: JSONObject = [
      "Image": .string(fixture.image), "Cmd": ["sleep", "1000"],
      "HostConfig": ["NetworkMode": "none", "Init": true],
    ]
    for (key, value) in members { body[key] = value }
    return try await engine.createContainer(name: name, body: .object(body))
  }

  /// What `body` fails with.
  private func failure(_ body: () async throws -> Void) async -> EngineError? {
    do { try await body() } catch { return error as? EngineError }
    return nil
  }

  // MARK: System

  @Test func theEngineTellsItsVersion() async throws {
    try await engine.ping()
    let version = try await engine.version()
    #expect(!version.version.isEmpty)
    #expect(version.apiVersion.hasPrefix("1."))
    #expect(version.flavor == .docker)
    #expect(version.components["Engine"] == version.version)
    #expect(try await engine.info()["OSType"]?.stringValue == "linux")
  }

  // MARK: Containers

  @Test func aContainerLivesFromCreationToRemoval() async throws {
    let made = try await create(
      "life_1_2_abc", ["Labels": ["io.balena.supervised": "true", "io.balena.app-id": "7"]])
    #expect(try await engine.inspectContainer(made.id)["State"]?["Status"] == "created")
    #expect(try await engine.startContainer(made.id) == .started)
    #expect(try await engine.startContainer(made.id) == .alreadyRunning)

    let listed = try await engine.listContainers(labels: ["io.balena.supervised", "io.balena.app-id=7"])
    #expect(listed.map(\.id) == [made.id])
    #expect(listed.first?.names == ["life_1_2_abc"])
    #expect(listed.first?.state == "running")
    #expect(listed.first?.labels["io.balena.app-id"] == "7")
    #expect(try await engine.listContainers(labels: ["io.balena.app-id=8"]).isEmpty)

    try await engine.renameContainer(made.id, to: "old_life_1_2_abc")
    #expect(try await engine.inspectContainer("old_life_1_2_abc")["Id"]?.stringValue == made.id)
    try await engine.updateContainer(made.id, body: ["RestartPolicy": ["Name": "always"]])
    let policy = try await engine.inspectContainer(made.id)["HostConfig"]?["RestartPolicy"]?["Name"]
    #expect(policy == "always")

    #expect(try await engine.stopContainer(made.id, within: 1) == .stopped)
    #expect(try await engine.stopContainer(made.id) == .alreadyStopped)
    try await engine.removeContainer(made.id)
    #expect(try await engine.stopContainer(made.id) == .notFound)
    #expect(try await engine.listContainers(labels: ["io.balena.supervised"]).isEmpty)
  }

  @Test func waitingGivesTheExitStatus() async throws {
    let made = try await create("wait", ["Cmd": ["sh", "-c", "sleep 0.2; exit 23"]])
    _ = try await engine.startContainer(made.id)
    #expect(try await engine.waitForContainer(made.id) == 23)
    try await engine.removeContainer(made.id)
  }

  @Test func aKilledContainerHasTheSignalsStatus() async throws {
    let made = try await create("kill")
    _ = try await engine.startContainer(made.id)
    try await engine.killContainer(made.id)
    #expect(try await engine.waitForContainer(made.id) == 137)
    try await engine.removeContainer(made.id)
  }

  @Test func errorsKeepTheEnginesStatusAndWords() async throws {
    let missing = await failure {
      _ = try await engine.inspectContainer("nobody")
    }
    #expect(missing?.statusCode == 404)
    #expect(missing?.isNotFound == true)
    #expect(missing?.message == "No such container: nobody")
    #expect(
      missing?.description == "engine: GET /containers/nobody/json: No such container: nobody (404)")

    let made = try await create("taken")
    let taken = await failure { _ = try await create("taken") }
    #expect(taken?.isConflict == true)
    #expect(taken?.message.contains("already in use") == true)
    _ = try await engine.startContainer(made.id)
    let running = await failure { try await engine.removeContainer(made.id) }
    #expect(running?.statusCode == 409)
    try await engine.removeContainer(made.id, force: true)

    let imageless = await failure { _ = try await create("imageless", ["Image": "supervisor-test/none:9"]) }
    #expect(imageless?.isNotFound == true)
    #expect(imageless?.message.contains("No such image: supervisor-test/none:9") == true)
  }

  @Test func aCommandThatCannotRunKeepsItsContainerAndSaysWhy() async throws {
    let made = try await create(
      "broken", ["Cmd": ["/no/such/program"], "HostConfig": ["NetworkMode": "none"]])
    let error = await failure {
      _ = try await engine.startContainer(made.id)
    }
    #expect(error?.statusCode == 400)
    #expect(error?.message.contains("no such file or directory") == true)
    try await engine.removeContainer(made.id)
  }

  // MARK: Images

  @Test func imagesAreFoundByNameByPatternAndById() async throws {
    let inspected = try await engine.inspectImage(fixture.image)
    let id = try #require(inspected["Id"]?.stringValue)
    #expect(inspected["Config"]?["Labels"]?["made"] == "here")
    try await engine.tagImage(id, repository: "registry.example.com:5000/group/name", tag: "v2")
    let found = try await engine.listImages(references: ["registry.example.com:5000/group/name"])
    #expect(found.map(\.id) == [id])
    #expect(found.first?.repoTags.contains("registry.example.com:5000/group/name:v2") == true)
    #expect(try await engine.inspectImage("registry.example.com:5000/group/name:v2")["Id"]?.stringValue == id)
    try await engine.removeImage("registry.example.com:5000/group/name:v2")
    let gone = await failure {
      _ = try await engine.inspectImage("registry.example.com:5000/group/name:v2")
    }
    #expect(gone?.isNotFound == true)
    #expect(try await engine.inspectImage(id)["Id"]?.stringValue == id)
  }

  @Test func pruningTakesOnlyWhatHasNoName() async throws {
    let first = try await engine.importImage(.bytes(fixture.archive), repository: "supervisor-test/prune")
    let second = try await engine.importImage(
      .bytes(fixture.archive), repository: "supervisor-test/prune", changes: ["LABEL other=yes"])
    #expect(try await engine.listImages(isDangling: true).map(\.id).contains(first))
    try await engine.pruneImages()
    #expect(try await engine.listImages(isDangling: true).isEmpty)
    #expect(try await engine.listImages(references: ["supervisor-test/prune"]).map(\.id) == [second])
    try await engine.removeImage("supervisor-test/prune:latest")
  }

  /// Puts an image with a layer of its own into the registry, and off the engine.
  private func publish(_ name: String, bytes: Int) async throws -> PullReference {
    let directory = try TemporaryDirectory()
    let archive = try await EngineFixture.makeArchive(in: directory.path, extraBytes: bytes)
    await directory.remove()
    let repository = "\(fixture.registry)/\(name)"
    _ = try await engine.importImage(.bytes(archive), repository: repository, tag: "v1")
    let push = EngineClient.Call(
      method: "POST", path: "/images/\(PercentEncoding.path(repository))/push", query: [("tag", "v1")],
      headers: [("X-Registry-Auth", RegistryCredentials.token("").header)], timeouts: EngineTimeouts.pull)
    let stream = PullStream(try await engine.lines(push), call: push.name)
    while try await stream.next() != nil {}
    try await engine.removeImage("\(repository):v1")
    return PullReference("\(repository):v1")
  }

  @Test func aPullShowsProgressUpToItsEnd() async throws {
    let reference = try await publish("test/progress", bytes: 4_000_000)
    var progress = PullProgress(flavor: try await engine.version().flavor)
    var seen = [progress.percent]
    let credentials = RegistryCredentials.password(
      username: "d_0123", password: "key", serverAddress: fixture.registry)
    for try await event in try await engine.pullImage(reference, credentials: credentials) {
      progress.consume(event)
      seen.append(progress.percent)
    }
    #expect(seen == seen.sorted())
    #expect(seen.last == 100)
    #expect(Set(seen).count > 2)

    let image = try await engine.inspectImage("\(reference.repository):v1")
    let digest = try #require(image["RepoDigests"]?.arrayValue?.first?.stringValue)
    var again = PullProgress(flavor: .docker)
    for try await event in try await engine.pullImage(PullReference(digest)) { again.consume(event) }
    #expect(again.percent == 100)
    try await engine.removeImage("\(reference.repository):v1", force: true)
  }

  @Test func aPullOfWhatTheRegistryDoesNotHaveSaysSo() async throws {
    let error = await failure {
      let stream = try await engine.pullImage(PullReference("\(fixture.registry)/test/none:1"))
      while try await stream.next() != nil {}
    }
    #expect(error?.statusCode == 404)
    #expect(error?.message.contains("not found") == true)
  }

  @Test func aCancelledPullStops() async throws {
    let reference = try await publish("test/cancelled", bytes: 48_000_000)
    var isDownloading = false
    let engine = engine
    let task = Task {
      let stream = try await engine.pullImage(reference)
      while let event = try await stream.next() {
        if event.status == "Downloading" { isDownloading = true }
      }
    }
    #expect(await eventually { isDownloading })
    task.cancel()
    let error = await #expect(throws: EngineError.self) { try await task.value }
    #expect(error?.kind == .cancelled)
    let inspection = await failure {
      _ = try await engine.inspectImage("\(reference.repository):v1")
    }
    #expect(inspection?.isNotFound == true)
  }

  // MARK: Networks and volumes

  @Test func aNetworkIsMadeUsedAndRemoved() async throws {
    let body: JSON = [
      "Name": "0123abcd_default", "CheckDuplicate": true, "Labels": ["io.balena.supervised": "true"],
      "IPAM": ["Driver": "default", "Config": [["Subnet": "10.213.7.0/24", "Gateway": "10.213.7.1"]]],
    ]
    let id = try await engine.createNetwork(body)
    #expect(try await engine.inspectNetwork("0123abcd_default")["Id"]?.stringValue == id)
    #expect(
      try await engine.listNetworks(labels: ["io.balena.supervised"]).map(\.name) == ["0123abcd_default"])
    let twice = await failure { _ = try await engine.createNetwork(body) }
    #expect(twice?.isConflict == true)

    let made = try await create("networked", ["HostConfig": ["NetworkMode": "0123abcd_default"]])
    try await engine.disconnectNetwork(id, container: made.id)
    try await engine.connectNetwork(
      "0123abcd_default", container: made.id, endpoint: ["Aliases": ["web"]])
    let settings = try await engine.inspectContainer(made.id)["NetworkSettings"]?["Networks"]
    let aliases = strings(settings?["0123abcd_default"]?["Aliases"])
    #expect(aliases.contains("web"))
    try await engine.removeContainer(made.id, force: true)
    try await engine.removeNetwork("0123abcd_default")
    let gone = await failure { try await engine.removeNetwork(id) }
    #expect(gone?.isNotFound == true)
  }

  @Test func aVolumeIsMadeUsedAndRemoved() async throws {
    try await engine.createVolume(["Name": "7_data", "Labels": ["io.balena.supervised": "true"]])
    #expect(try await engine.inspectVolume("7_data")["Driver"] == "local")
    #expect(try await engine.listVolumes().compactMap { $0["Name"]?.stringValue }.contains("7_data"))
    let made = try await create(
      "mounted", ["HostConfig": ["NetworkMode": "none", "Binds": ["7_data:/data"]]])
    let used = await failure { try await engine.removeVolume("7_data") }
    #expect(used?.isConflict == true)
    try await engine.removeContainer(made.id)
    try await engine.removeVolume("7_data")
    let gone = await failure { try await engine.removeVolume("7_data") }
    #expect(gone?.isNotFound == true)
  }

  // MARK: Events

  @Test func whatHappensIsReported() async throws {
    let events = engine.events(filters: ["type": ["container"]])
    #expect(await events.next() == .connected)
    let made = try await create("seen", ["Labels": ["io.balena.service-name": "web"]])
    _ = try await engine.startContainer(made.id)
    try await engine.removeContainer(made.id, force: true)
    var actions: [String] = []
    while actions.last != "destroy", let item = await events.next() {
      guard case .event(let event) = item, event.id == made.id else { continue }
      #expect(event.type == "container")
      #expect(event.attributes["io.balena.service-name"] == "web")
      #expect(event.attributes["name"] == "seen")
      actions.append(event.action)
    }
    #expect(actions == ["create", "start", "kill", "die", "destroy"])
  }

  @Test func cancellingTheReaderEndsTheEvents() async throws {
    let events = engine.events()
    #expect(await events.next() == .connected)
    let task = Task {
      while let item = await events.next() { if case .disconnected = item { return false } }
      return true
    }
    await Task.yield()
    task.cancel()
    #expect(await task.value)
  }
}

/// Tests that break their engine have one of their own.
@Suite struct EngineFailureTests {
  @Test func eventsComeAgainAfterTheEngineWasRestarted() async throws {
    let privateEngine = try PrivateEngine()
    try await privateEngine.start()
    let engine = privateEngine.client
    let events = engine.events(filters: ["type": ["volume"]])
    #expect(await events.next() == .connected)
    try await engine.createVolume(["Name": "one"])
    #expect(await Self.nextVolume(events) == "one")

    await privateEngine.stop()
    guard case .disconnected = await events.next() else {
      Issue.record("the end of the engine went unnoticed")
      return await privateEngine.remove()
    }
    let task = Task { [await events.next(), await events.next()] }
    // Let at least one attempt find nobody.
    try await EventLoop.shared.sleep(for: .milliseconds(1500))
    try await privateEngine.start()
    #expect(await task.value == [.connected, .gap])
    try await engine.createVolume(["Name": "two"])
    #expect(await Self.nextVolume(events) == "two")
    await privateEngine.remove()
  }

  private static func nextVolume(_ events: EngineEvents) async -> String? {
    guard case .event(let event) = await events.next() else { return nil }
    return event.action == "create" ? event.id : nil
  }

  @Test func aMissingEngineIsNamed() async throws {
    LoopDriver.start()
    let engine = EngineClient(.unix("/nowhere/engine.sock"), client: HTTPClient())
    let error = await #expect(throws: EngineError.self) { try await engine.ping() }
    #expect(error?.kind == .unreachable)
    #expect(
      error?.description
        == "engine: GET /_ping: unix:///nowhere/engine.sock: cannot connect: No such file or directory")
  }

  @Test func eventsOfAMissingEngineSayOnceThatItIsMissing() async throws {
    LoopDriver.start()
    let engine = EngineClient(.unix("/nowhere/engine.sock"), client: HTTPClient())
    let events = engine.events()
    guard case .disconnected(let error) = await events.next() else {
      Issue.record("no word of the missing engine")
      return
    }
    #expect(error.kind == .unreachable)
    let task = Task { await events.next() }
    await Task.yield()
    task.cancel()
    #expect(await task.value == nil)
  }
}
