import JSON
import Testing

@testable import Model

@Suite struct `Dependencies of services` {
  @Test(
    arguments: [
      ([("a", ["b"]), ("b", ["a"])], ["a", "b", "a"]), ([("a", ["a"])], ["a", "a"]),
      ([("x", ["a"]), ("a", ["b"]), ("b", ["c"]), ("c", ["a"])], ["a", "b", "c", "a"]),
      ([("a", ["b", "c"]), ("b", []), ("c", ["d"]), ("d", ["b", "c"])], ["c", "d", "c"]),
    ] as [([(String, [String])], [String])])
  func `a circle is spelled out`(services: [(String, [String])], circle: [String]) {
    #expect(DependencyCycle.find(services.map { (service: $0.0, dependsOn: $0.1) }) == circle)
  }

  @Test func `what depends on each other without a circle is none`() {
    #expect(DependencyCycle.find([]) == nil)
    #expect(
      DependencyCycle.find([("a", ["b", "c"]), ("b", ["d"]), ("c", ["d", "gone"]), ("d", [])]) == nil)
  }

  @Test func `a chain of a hundred thousand services is no circle and no deep stack`() {
    let chain = (0..<100_000).map { (service: "s\($0)", dependsOn: ["s\($0 + 1)"]) }
    #expect(DependencyCycle.find(chain) == nil)
    #expect(DependencyCycle.find(chain + [("s100000", ["s99999"])]) == ["s99999", "s100000", "s99999"])
  }

  @Test func `health and exit code are read from a container`() throws {
    let service = try Fixture.service([:]).service
    let request = try service.createRequest(containerIds: [:], deviceName: "")
    var shown = EngineEcho(image: Fixture.image).inspect(request, of: service).objectValue ?? [:]
    #expect(try Service(inspecting: .object(shown)).container?.health == nil)
    for (text, health) in [("healthy", ContainerHealth.healthy), ("unhealthy", .unhealthy), ("none", nil)] {
      shown["State"] = ["Status": "running", "Running": true, "Health": ["Status": .string(text)]]
      #expect(try Service(inspecting: .object(shown)).container?.health == health)
    }
    shown["State"] = ["Status": "exited", "Running": false, "ExitCode": 3]
    #expect(try Service(inspecting: .object(shown)).container?.exitCode == 3)
  }

  @Test(
    arguments: [
      (["network_mode": "host"], true), (["networkMode": "host"], true), (["network_mode": "bridge"], false),
      (["network_mode": "service:other"], false), (["networks": ["host"]], false), ([:], false),
    ] as [(JSONObject, Bool)])
  func `an app is on the host's network when one of its services says so`(
    composition: JSONObject, isExpected: Bool
  ) {
    let services = [JSONObject(), composition].enumerated().map { number, composition in
      TargetService(
        name: "s\(number)", serviceId: number, imageId: number, image: "x", composition: composition)
    }
    let release = TargetRelease(commit: "c", id: 1, services: services)
    let app = TargetApp(appId: 1, uuid: "u", name: "n", source: "local", release: release)
    #expect(app.usesHostNetwork == isExpected)
    #expect(TargetApp(reading: app.stored).usesHostNetwork == isExpected)
  }
}
