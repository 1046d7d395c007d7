/// One entry of a service's `depends_on`: whom it waits for before its start, and until when
/// (target-state 3.11; the conditions are those of the Compose specification).
public nonisolated struct Dependency: Sendable, Hashable {
  public var service: String
  public var condition: Condition
  /// `required: false`: once the condition cannot be met any more, the start does not wait for it.
  public var isRequired: Bool

  public enum Condition: String, Sendable, Hashable, CaseIterable {
    /// At its target and started, once; the meaning of the short form.
    case started = "service_started"
    /// Its container runs and its health check has passed.
    case healthy = "service_healthy"
    /// Its container has ended with exit code 0.
    case completed = "service_completed_successfully"
  }

  public init(_ service: String, _ condition: Condition = .started, isRequired: Bool = true) {
    self.service = service
    self.condition = condition
    self.isRequired = isRequired
  }
}

nonisolated extension Dependency: ExpressibleByStringLiteral {
  public init(stringLiteral service: String) { self.init(service) }
}

nonisolated extension Dependency: CustomStringConvertible {
  /// For people: `db to be healthy`.
  public var description: String {
    switch condition {
    case .started: "\(service) to start"
    case .healthy: "\(service) to be healthy"
    case .completed: "\(service) to complete successfully"
    }
  }
}

/// Finds services that wait for each other in a circle.
nonisolated enum DependencyCycle {
  /// - Parameter dependencies: services with the names they depend on, in the order of the document.
  /// - Returns: the first circle, its first service repeated at the end; nil when there is none.
  static func find(_ dependencies: [(service: String, dependsOn: [String])]) -> [String]? {
    let edges = Dictionary(dependencies.map { ($0.service, $0.dependsOn) }) { first, _ in first }
    var finished: Set<String> = []
    for (start, _) in dependencies where !finished.contains(start) {
      // A stack of our own: the document decides how long a chain is.
      var path = [start]
      var onPath: Set<String> = [start]
      var remaining = [edges[start, default: []][...]]
      while let last = path.last {
        guard let next = remaining[path.count - 1].popFirst() else {
          finished.insert(last)
          onPath.remove(last)
          path.removeLast()
          remaining.removeLast()
          continue
        }
        if onPath.contains(next) {
          return Array(path.drop { $0 != next }) + [next]
        }
        guard !finished.contains(next), let further = edges[next] else { continue }
        path.append(next)
        onPath.insert(next)
        remaining.append(further[...])
      }
    }
    return nil
  }
}
