import Engine
import HTTP
import JSON
import Model
import TestSupport
import Testing

@testable import StateEngine

/// Objects that the engine has and cannot tell of.
@Suite(.serialized)
struct CurrentStateTests {
  @Test func aContainerThatTheEngineCannotTellOfStaysAsItWasAndHidesNoOther() async throws {
    let engine = try FixtureEngine()
    let current = CurrentState(engine: engine.client, logger: quiet)
    engine.setContainers(["a": "one", "b": "two"])
    try await current.refresh()
    #expect(current.services.count == 2)
    engine.setContainers(["a": "one", "b": "two", "c": "three", "d": "four"])
    for id in ["a", "c"] { engine.answers["/containers/\(id)/json"] = FixtureEngine.fault() }
    current.invalidate()
    try await current.refresh()
    #expect(current.services.keys.sorted() == ["a", "b", "d"])
    #expect(current.services["a"]?.name == "one")
    #expect(current.isComplete && !current.isStale)
    engine.setContainers(["c": "three"])
    current.invalidate()
    try await current.refresh()
    #expect(current.services.keys.sorted() == ["c"])
    await engine.stop()
  }

  @Test func anEngineThatCannotBeReachedIsNoAnswer() async throws {
    let engine = try FixtureEngine()
    let current = CurrentState(engine: engine.client, logger: quiet)
    await engine.stop()
    await #expect(throws: EngineError.self) { try await current.refresh() }
    #expect(!current.isComplete && !current.wasRead)
  }

  @Test func aNetworkThatTheEngineCannotTellOfStaysAsItWas() async throws {
    let engine = try FixtureEngine()
    let current = CurrentState(engine: engine.client, logger: quiet)
    let name = "\(uuid(1))_default"
    let labels: JSON = ["io.balena.supervised": "true", "io.balena.app-id": "1"]
    engine.answers["/networks"] = .json([
      ["Id": "n", "Name": .string(name), "Labels": labels], ["Id": "s", "Name": "supervisor0"],
    ])
    engine.answers["/networks/n"] = .json(["Id": "n", "Name": .string(name), "Labels": labels])
    engine.answers["/networks/s"] = FixtureEngine.fault()
    try await current.refresh()
    // It is there: nobody is stopped in order to make it anew.
    #expect(current.supervisorNetwork == .ready)
    #expect(current.supervisorGateway == SupervisorNetwork.gatewayAddress)
    engine.answers["/networks/n"] = FixtureEngine.fault()
    current.invalidate()
    try await current.refresh()
    #expect(current.networks["n"]?.name == "default")
    await engine.stop()
  }

  @Test func aNetworkFromBeforeAppUuidsIsNotThatOfAnotherApp() {
    func legacy(_ appId: Int) -> Network {
      Network(appId: appId, appUuid: nil, name: "default", config: NetworkConfig())
    }
    #expect(!legacy(1).isSame(as: legacy(2)))
    #expect(legacy(1).isSame(as: network("default", app: 1)))
    #expect(network("default", app: 1).isSame(as: network("default", app: 1)))
    #expect(!network("default", app: 1).isSame(as: network("back", app: 1)))
  }
}
