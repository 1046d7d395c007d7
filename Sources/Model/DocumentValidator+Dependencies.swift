import JSON

// What a document may not ask for because it could never be done: services that wait for each other.
// These rules are not the reference's, which waits for ever (target-state 10, D15).
nonisolated extension DocumentValidator {
  /// Of the two keys that are looked for, `dependsOn` in any spelling is the shorter one.
  private static let shortestKey = 9

  mutating func checkDependencies(of release: TargetRelease, at path: Path) {
    var dependencies: [(service: String, dependsOn: [String])] = []
    for service in release.services {
      let path = path / service.name / "composition"
      var relevant = JSONObject()
      for (key, value) in service.composition where key.utf8.count >= Self.shortestKey {
        let name = Composition.camelCase(key)
        guard name == "dependsOn" || name == "networkMode" else { continue }
        relevant[key] = value
        if name == "dependsOn" { checkConditions(value, at: path / key) }
      }
      guard !relevant.isEmpty else { continue }
      var composition = Composition(relevant, serviceName: service.name)
      var names = composition.dependencies().map(\.service)
      if case .service(let name) = composition.networkMode() { names.append(name) }
      dependencies.append((service.name, names))
    }
    if let cycle = DependencyCycle.find(dependencies) {
      reject("services that do not wait for each other", at: path, shown: cycle.joined(separator: " -> "))
    }
  }

  private mutating func checkConditions(_ value: JSON, at path: Path) {
    for (name, entry) in value.objectValue ?? [:] {
      guard let condition = entry["condition"], !condition.isNull,
        condition.stringValue.flatMap(Dependency.Condition.init(rawValue:)) == nil
      else { continue }
      let known = Dependency.Condition.allCases.map(\.rawValue).joined(separator: " | ")
      expect(known, at: path / name / "condition", condition)
    }
  }
}
