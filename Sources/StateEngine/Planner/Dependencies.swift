import Model

/// The order in which an app's target services may start (state-engine 3.6).
nonisolated struct Dependencies {
  /// Every service after those it depends on; services of a circle at the end.
  let order: [Service]
  /// Services that depend on each other in a circle, and those that depend on them; none of
  /// these can ever start.
  let blocked: [String]

  /// A dependency on a service that the app does not have counts as met.
  init(_ services: [Service]) {
    let names = Set(services.map(\.name))
    var open: [String: Set<String>] = [:]
    var dependents: [String: [Int]] = [:]
    for (index, service) in services.enumerated() {
      let needed = Set(service.dependencies.map(\.service)).intersection(names)
      open[service.name] = needed
      for name in needed { dependents[name, default: []].append(index) }
    }
    var order = services.filter { open[$0.name]?.isEmpty ?? true }
    var next = 0
    while next < order.count {
      let name = order[next].name
      next += 1
      for index in dependents[name] ?? [] {
        let dependent = services[index]
        open[dependent.name]?.remove(name)
        if open[dependent.name]?.isEmpty ?? true { order.append(dependent) }
      }
    }
    let ordered = Set(order.map(\.name))
    let rest = services.filter { !ordered.contains($0.name) }
    self.order = order + rest
    blocked = rest.map(\.name)
  }
}
