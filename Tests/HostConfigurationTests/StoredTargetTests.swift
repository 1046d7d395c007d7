import Database
import HostConfiguration
import JSON
import Model
import TestSupport
import Testing

@Suite("The stored target as values")
struct StoredTargetTests {
  @Test("a target comes back as it was, its configuration under bare names")
  func roundTrip() throws {
    let store = try Store.inMemory()
    let service = TargetService(
      name: "web", serviceId: 77, imageId: 88, image: "registry/x@sha256:1", environment: ["A": "1"],
      labels: ["l": "v"], isRunning: false, contract: ["type": "sw.container"],
      composition: ["restart": "always", "ports": ["80:80"]])
    let release = TargetRelease(
      commit: "c0ffee", id: 99, services: [service], networks: ["z": [:], "a": [:]], volumes: ["data": [:]])
    let apps = [
      TargetApp(appId: 1, uuid: "a1", name: "acme", source: "local", release: release),
      TargetApp(appId: 2, uuid: "b2", name: "empty", isHost: true, source: "local", release: nil),
    ]
    try store.targets.replace(
      with: TargetState(
        deviceName: "boat", config: ["RESIN_SUPERVISOR_DELTA": "1", "FOO": "2"], apps: apps),
      source: "local")
    let loaded = try store.targets.targetApps(source: "local")
    #expect(loaded == apps)
    #expect(loaded.first?.release?.networks.keys == ["z", "a"])
    #expect(try store.targets.deviceConfig() == ["SUPERVISOR_DELTA": "1"])
    #expect(try store.targets.deviceName() == "boat")
  }

  @Test("a row that cannot be read does not hide the others, and its app is not gone")
  func badRow() throws {
    let store = try Store.inMemory()
    let good = StoredApp(uuid: "g", source: "local", appId: 1, name: "g", releaseId: 1, commit: "c")
    var bad = StoredApp(uuid: "b", source: "local", appId: 2, name: "b", releaseId: 1, commit: "c")
    bad.services = "[{"
    try store.targets.replace([bad, good], source: "local", deviceName: "", deviceConfig: [:])
    let apps = try store.targets.targetApps(source: "local").sorted { $0.appId < $1.appId }
    #expect(apps.map(\.uuid) == ["g", "b"] && apps.map(\.isRejected) == [false, true])
    #expect(apps[0].problem == nil)
    #expect(apps[1].problem?.hasPrefix("Stored services of an app cannot be read: ") == true)
  }

  @Test("of two apps with one id the last counts")
  func sameId() throws {
    let store = try Store.inMemory()
    let apps = ["x", "y"].map { StoredApp(uuid: $0, source: "local", appId: 1, name: $0) }
    try store.targets.replace(apps, source: "local", deviceName: "", deviceConfig: [:])
    #expect(try store.targets.targetApps(source: "local").map(\.uuid) == ["y"])
  }
}
