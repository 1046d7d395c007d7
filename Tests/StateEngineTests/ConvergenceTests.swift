import Database
import Glibc
import Model
import TestSupport
import Testing

@testable import StateEngine

/// From any state to any target on the simulated device: 1,100 targets, and as many times that as
/// `STATE_ENGINE_SEEDS` is times 10.
struct ConvergenceTests {
  private let seeds = getenv("STATE_ENGINE_SEEDS").flatMap { Int(String(cString: $0)) } ?? 10

  /// A random target: up to three apps of up to four services.
  private func randomTarget(_ random: inout SeededGenerator) -> [App] {
    (1...3).compactMap { appId -> App? in
      guard random.chance(80) else { return nil }
      let release = Int.random(in: 1...4, using: &random)
      let networks = ["default", "front", "back"].filter { $0 == "default" || random.chance(50) }
      let volumes = ["data", "cache"].filter { _ in random.chance(50) }
      let names = ["a", "b", "c", "d"].filter { _ in random.chance(75) }
      var services: [Service] = []
      for name in names {
        let dependsOn = services.map { Dependency($0.name) }.filter { _ in random.chance(25) }
        let image = ["one", "two", "three", "oned", "x-oned", "twod"].randomElement(using: &random) ?? "one"
        var labels: [String: String] = [:]
        if random.chance(10) { labels["io.balena.update.requires-reboot"] = "1" }
        if random.chance(20) { labels["io.balena.features.supervisor-api"] = "1" }
        if random.chance(30) { labels["io.balena.update.rollback"] = "true" }
        if random.chance(20) { labels["fixed-port"] = "80" }
        services.append(
          service(
            name, app: appId, image: image, release: release, variant: Int.random(in: 0...1, using: &random),
            strategy: random.chance(40) ? nil : UpdateStrategy.allCases.randomElement(using: &random),
            running: random.chance(90), dependsOn: dependsOn,
            networks: networks.filter { _ in random.chance(60) },
            volumes: volumes.filter { _ in random.chance(50) },
            labels: labels))
      }
      return app(
        appId, release: release, services.shuffled(using: &random),
        networks: networks.map {
          network($0, app: appId, version: random.chance(20) ? 1 : 0)
        },
        volumes: volumes.map { volume($0, app: appId, version: random.chance(10) ? 1 : 0) })
    }
  }

  /// What is left to be different when the device says that it has settled.
  private func remains(of device: SimulatedDevice) -> [String] {
    var found: [String] = []
    let target = resolved(device.target, device.inventory)
    for app in target {
      let containers = device.containers.filter { $0.appId == app.appId }
      if containers.count != app.services.count { found.append("\(containers.count) containers") }
      let ids = Dictionary(containers.map { ($0.name, $0.container?.id ?? "") }) { first, _ in first }
      for service in app.services {
        guard let container = containers.first(where: { $0.name == service.name }) else {
          found.append("\(service.name) is missing")
          continue
        }
        if !container.differences(to: service, containerIds: ids).isEmpty
          || container.commit != service.commit
        {
          found.append("\(service.name) differs: \(container.differences(to: service, containerIds: ids))")
        }
        if service.isRunning, container.container?.status == .installed {
          found.append("\(service.name) was not started")
        }
        if service.isRunning, let id = container.container?.id, device.stranded.contains(id) {
          found.append("\(service.name) was stopped by the agent alone and does not run")
        }
        if !service.isRunning, container.isRunning { found.append("\(service.name) runs") }
      }
      let networks = device.networks.filter { $0.appId == app.appId }
      if Set(networks) != Set(app.networks) || networks.count != app.networks.count {
        found.append("networks differ")
      }
      if !Set(device.volumes).isSuperset(of: app.volumes) { found.append("volumes differ") }
      if device.commits[app.appId] != app.commit { found.append("commit differs") }
    }
    let ids = Set(target.map(\.appId))
    if device.containers.contains(where: { !ids.contains($0.appId) }) {
      found.append("removed app has containers")
    }
    if device.networks.contains(where: { !ids.contains($0.appId) }) {
      found.append("removed app has networks")
    }
    if !device.keepVolumes, device.volumes.contains(where: { !ids.contains($0.appId) }) {
      found.append("removed app has volumes")
    }
    if !device.locks.isEmpty || !device.leftovers.isEmpty { found.append("locks are left") }
    if !device.keepImages {
      let wanted = Set(target.flatMap(\.services).map { StoredImage(for: $0).use })
      let available = Set(device.inventory.availableRows.map(\.use))
      if available != wanted {
        found.append(
          "images differ: missing \(wanted.subtracting(available).map(\.name)), more \(available.subtracting(wanted).map(\.name))"
        )
      }
    }
    return found
  }

  /// What went wrong on the way to the target; nothing, if all is well.
  private func problems(of device: inout SimulatedDevice, _ seed: UInt64) -> [String] {
    var found = device.settle() ? [] : ["does not settle"]
    let plan = Planner.plan(device.plannerInput)
    if !plan.steps.isEmpty || !found.isEmpty {
      found += ["planned: \(plan.names)", "waiting: \(plan.apps.mapValues { $0.waiting.map { "\($0)" } })"]
    }
    return found + remains(of: device) + device.violations.prefix(5)
  }

  private func check(_ device: inout SimulatedDevice, _ seed: UInt64) throws {
    let problems = problems(of: &device, seed)
    try #require(problems == [], "seed \(seed)")
  }

  @Test(arguments: 0..<10)
  func aDeviceReachesAnyTargetFromAnyOther(batch: Int) throws {
    for index in 0..<seeds {
      let seed = UInt64(batch * 1000 + index)
      var device = SimulatedDevice(seed: seed)
      device.keepImages = device.random.chance(20)
      device.keepVolumes = device.random.chance(20)
      for _ in 0..<3 {
        device.target = randomTarget(&device.random)
        try check(&device, seed)
      }
    }
  }

  @Test(arguments: 0..<10)
  func itDoesSoWhenStepsFailOrAreLateAndTargetsChangeHalfway(batch: Int) throws {
    for index in 0..<seeds {
      let seed = UInt64(10_000 + batch * 1000 + index)
      var device = SimulatedDevice(seed: seed)
      device.failures = 15
      device.delays = 25
      for _ in 0..<4 {
        device.target = randomTarget(&device.random)
        for _ in 0..<Int.random(in: 0...12, using: &device.random) { device.round() }
      }
      try check(&device, seed)
    }
  }

  @Test(arguments: 0..<10)
  func itDoesSoThroughCrashesLocksAndLosses(batch: Int) throws {
    for index in 0..<seeds {
      let seed = UInt64(20_000 + batch * 1000 + index)
      var device = SimulatedDevice(seed: seed)
      device.failures = 10
      device.delays = 15
      var targets: [[App]] = []
      for _ in 0..<4 {
        // Now and then back to where it came from, in the middle of the way.
        let isReturn = device.random.chance(40)
        targets.append(isReturn ? targets.dropLast().last ?? [] : randomTarget(&device.random))
        device.target = targets.last ?? []
        for _ in 0..<Int.random(in: 4...20, using: &device.random) {
          device.round()
          if device.random.chance(25) { device.disturb() }
        }
      }
      device.force = device.random.chance(50)
      if !device.force { device.userLocks = [:] }
      device.failures = 0
      try check(&device, seed)
    }
  }
}
