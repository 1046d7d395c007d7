import JSON
import Journal

// Whose lines are whose, as one text of the database.

nonisolated extension LoggedContainer {
  static func text(_ containers: [String: LoggedContainer]) -> String {
    var object = JSONObject()
    for (id, container) in containers.sorted(by: { $0.key < $1.key }) {
      object[id] = .array([
        .int(container.serviceId), .string(container.serviceName), .string(container.level.text),
      ])
    }
    return JSON.object(object).serialized()
  }

  /// What is no such text has none.
  static func read(_ text: String) -> [String: LoggedContainer] {
    guard let object = (try? JSON(parsing: text))?.objectValue else { return [:] }
    var containers: [String: LoggedContainer] = [:]
    for (id, value) in object {
      guard let fields = value.arrayValue, fields.count == 3, let number = fields[0].intValue,
        let name = fields[1].stringValue, let level = fields[2].stringValue
      else { continue }
      containers[id] = LoggedContainer(serviceId: number, serviceName: name, level: Level(level))
    }
    return containers
  }
}

nonisolated extension LoggedContainer.Level {
  fileprivate var text: String {
    switch self {
    case .all: "all"
    case .errors: "error"
    case .none: "none"
    }
  }
}
