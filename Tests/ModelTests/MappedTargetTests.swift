import JSON
import Testing

@testable import Model

@Suite struct `The target as it is kept` {
  private static let images = ImageFacts(
    ids: ["web:latest": "sha256:aaaa"], infos: ["sha256:aaaa": Fixture.image])

  private static func row(
    _ composition: JSONObject = ["ports": ["80"], "networks": ["a", "b"]], name: String = "acme",
    labels: [String: String] = [:]
  ) -> StoredTargetApp {
    let service = TargetService(
      name: "web", serviceId: 77, imageId: 88, image: "web:latest", environment: ["A": "1"], labels: labels,
      composition: composition)
    let release = TargetRelease(
      commit: "c0ffee01", id: 99, services: [service], networks: ["a": [:]], volumes: ["data": [:]])
    return TargetApp(
      appId: 1_234_567, uuid: Fixture.appUuid, name: name, source: "local", release: release
    ).stored
  }

  private func mapped(_ rows: [StoredTargetApp]) -> MappedTarget {
    var target = MappedTarget()
    target.load(rows)
    target.map(
      context: Fixture.context, images: Self.images, apiKey: { app, service in "key of \(app) \(service)" },
      note: { _ in })
    return target
  }

  @Test func `what is mapped anew after the values were dropped equals them`() {
    var target = mapped([Self.row(), Self.row(["restart": "no"], name: "other")])
    let before = target.heldApps()
    target.letGo()
    #expect(target.apps == before)
    #expect(target.heldApps() == before)
    #expect(before.map(\.services.count) == [1, 1])
    #expect(before.first?.services.first?.config.image == "sha256:aaaa")
  }

  @Test func `the outlines and the problems stay when the values are dropped`() {
    var target = mapped([Self.row(), Self.row(["ports": ["x"]], name: "broken")])
    target.letGo()
    #expect(target.outlines.map(\.name) == ["acme", "broken"])
    #expect(target.outlines.map(\.isRejected) == [false, true])
    #expect(target.outlines.first?.services.map(\.imageName) == ["web:latest"])
    #expect(target.outlines.first?.commit == "c0ffee01")
    #expect(
      target.problems == [
        1_234_567: "app broken: Could not parse port definition: x (ports of service web)"
      ])
    #expect(target.apps.map(\.isRejected) == [false, true])
  }

  @Test func `what was stored counts when it is mapped, not before`() {
    var target = mapped([Self.row()])
    let before = target.apps
    target.letGo()
    target.load([Self.row(["image": "other"], name: "later")])
    #expect(target.apps == before && target.outlines.map(\.name) == ["acme"])
    #expect(target.imageNames == ["other:latest"])
    #expect(!target.isCurrent)
    target.map(context: Fixture.context, images: Self.images, apiKey: { _, _ in nil }, note: { _ in })
    #expect(target.apps.map(\.name) == ["later"])
    #expect(target.isCurrent)
  }

  @Test func `keys of the agent's API are asked for once, by those who want them`() {
    var target = MappedTarget()
    target.load([Self.row(labels: ["io.balena.features.supervisor-api": "1"])])
    var asked: [String] = []
    target.map(
      context: Fixture.context, images: Self.images,
      apiKey: { app, service in
        asked.append("\(app) \(service)")
        return "the key"
      }, note: { _ in })
    target.letGo()
    let environment = target.apps.first?.services.first?.config.environment
    #expect(environment?["BALENA_SUPERVISOR_API_KEY"] == "the key")
    #expect(asked == ["1234567 web"])
  }

  @Test func `nothing is mapped before there are facts to map with`() {
    var target = MappedTarget()
    target.load([Self.row()])
    #expect(target.apps.isEmpty && target.outlines.isEmpty && target.imageNames == ["web:latest"])
    #expect(!target.isCurrent)
  }

  @Test func `rows mean the same whatever the order of their members`() throws {
    let row = Self.row(["ports": ["80"], "restart": "no"])
    #expect(row.means(Self.row(["restart": "no", "ports": ["80"]])))
    #expect(row != Self.row(["restart": "no", "ports": ["80"]]))
    #expect(!row.means(Self.row(["restart": "no", "ports": ["81"]])))
    #expect(!row.means(Self.row(["ports": ["80"], "restart": "no"], name: "other")))
  }
}
