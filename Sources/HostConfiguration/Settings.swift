import Database
import JSON
import Logging

/// A setting that cannot be read or changed; texts of host 2.2. A secret's value is never in one.
public nonisolated enum SettingError: Error, Sendable, Hashable {
  case unknown(String)
  case invalidStoredValue(key: String, value: String)
  case notMutable(String)
  case invalidValue(key: String, value: String)
  case notRemovable(String)
  case database(DatabaseError)
  case configFile(ConfigFileError)
}

nonisolated extension SettingError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .unknown(let key): "Unknown config value \(key)"
    case .invalidStoredValue(let key, let value):
      "There was an error validating configuration input for key: \(key), with value: \(value)"
    case .notMutable(let key): "Attempt to set value for non-mutable schema key: \(key)"
    case .invalidValue(let key, let value):
      "Cannot set value for \(key), as value failed validation: \(value)"
    case .notRemovable(let key): "Attempt to delete non-existent or immutable key \(key)"
    case .database(let error): "\(error)"
    case .configFile(let error): "\(error)"
    }
  }
}

/// All settings of the agent over their two stores: config.json and the table `config` (host 2).
///
/// A change is checked whole before anything is written. Rows are written in one transaction, then the
/// file; when the file cannot be written, the rows are put back. Subscribers hear of a change after
/// both are on disk.
public final class Settings {
  public typealias Change = [SettingKey: JSON]

  private let file: ConfigFile
  private let store: Store
  private let logger: Logger
  private var subscribers: [Subscription] = []

  public init(file: ConfigFile, store: Store, logger: Logger) {
    self.file = file
    self.store = store
    self.logger = logger
  }

  // MARK: Reading

  /// The value, else the default; nil when there is neither.
  public func value(_ key: SettingKey) throws(SettingError) -> JSON? {
    guard let stored = try storedValue(key), !stored.isNull else { return key.defaultValue }
    guard let value = key.rule.coerce(stored) else {
      throw .invalidStoredValue(key: key.name, value: Self.shown(stored, of: key))
    }
    return value
  }

  /// `value(_:)` by name.
  public func value(named name: String) throws(SettingError) -> JSON? {
    guard let key = SettingKey(named: name) else { throw .unknown(name) }
    return try value(key)
  }

  /// The text of a setting; the default, with an error in the log, when it cannot be read.
  public func string(_ key: SettingKey) -> String? { valueOrDefault(key)?.stringValue }

  /// The whole number of a setting, 0 when it has none.
  public func int(_ key: SettingKey) -> Int {
    valueOrDefault(key)?.doubleValue.flatMap { Int(exactly: $0.rounded(.towardZero)) } ?? 0
  }

  /// The truth of a setting, false when it has none.
  public func bool(_ key: SettingKey) -> Bool { valueOrDefault(key)?.boolValue ?? false }

  private func valueOrDefault(_ key: SettingKey) -> JSON? {
    do {
      return try value(key)
    } catch {
      logger.error("\(error)")
      return key.defaultValue
    }
  }

  private func storedValue(_ key: SettingKey) throws(SettingError) -> JSON? {
    switch key.source {
    case .configFile: return file.members[key.name]
    case .database:
      do {
        return try store.settings.text(key.name).map(JSON.string)
      } catch {
        throw .database(error)
      }
    }
  }

  /// A member of config.json that is no setting of the agent.
  public func configMember(_ name: String) -> JSON? { file.members[name] }

  // MARK: Writing

  /// config.json is being written, or a change of it waits for its turn.
  public var isWriting: Bool { file.isWriting }

  /// Sets several values at once, coerced by their rules; all or none. null removes a row, and a
  /// member of config.json whose key says so.
  ///
  /// Rows are written before it first waits; it returns when all is on the disk and was announced.
  public func set(_ changes: [SettingKey: JSON]) async throws(SettingError) {
    try await write(try Self.coerced(changes))
  }

  /// `set(_:)` for keys that are all rows of the database; nothing is waited for.
  public func setRows(_ changes: [SettingKey: JSON]) throws(SettingError) {
    if let key = changes.keys.first(where: { $0.source != .database }) { throw .notMutable(key.name) }
    let rows = try Self.coerced(changes)
    _ = try write(rows: rows)
    notify(rows)
  }

  private static func coerced(_ changes: [SettingKey: JSON]) throws(SettingError) -> Change {
    var coerced: Change = [:]
    for (key, value) in changes.sorted(by: { $0.key.name < $1.key.name }) {
      guard key.isMutable else { throw .notMutable(key.name) }
      if value.isNull, key.rule != .boolean {
        coerced[key] = .null
      } else if let valid = key.rule.coerce(value) {
        coerced[key] = valid
      } else {
        throw .invalidValue(key: key.name, value: shown(value, of: key))
      }
    }
    return coerced
  }

  /// `set(_:)` by name.
  public func set(named changes: [String: JSON]) async throws(SettingError) {
    var known: [SettingKey: JSON] = [:]
    for (name, value) in changes.sorted(by: { $0.key < $1.key }) {
      guard let key = SettingKey(named: name) else { throw .notMutable(name) }
      known[key] = value
    }
    try await set(known)
  }

  /// Removes a value, so that the default holds again.
  public func remove(named name: String) async throws(SettingError) {
    guard let key = SettingKey(named: name), key.isMutable else { throw .notRemovable(name) }
    switch key.source {
    case .configFile:
      do {
        try await file.update([name: .remove])
      } catch {
        throw .configFile(error)
      }
    case .database:
      do {
        try store.settings.remove(name)
      } catch {
        throw .database(error)
      }
    }
    notify([key: key.defaultValue ?? .null])
  }

  /// Others may set a row while the file is written: it stays, and is what is announced.
  private func write(_ changes: Change) async throws(SettingError) {
    let rows = changes.filter { $0.key.source == .database }
    let members = changes.filter { $0.key.source == .configFile }
    let former = try write(rows: rows)
    var edited: Set<String> = []
    if !members.isEmpty {
      var update: [String: ConfigFile.Edit] = [:]
      for (key, value) in members {
        update[key.name] = value.isNull && key.isRemovedByNull ? .remove : .set(value)
      }
      do {
        edited = try await file.update(update)
      } catch {
        putBack(former.filter { name, _ in rows.contains { $0.key.name == name && holds($0.key, $0.value) } })
        throw .configFile(error)
      }
    }
    var announced = changes
    for (key, value) in rows where !holds(key, value) { announced[key] = valueOrDefault(key) ?? .null }
    announced.merge(self.members(named: edited)) { own, _ in own }
    notify(announced)
  }

  private func holds(_ key: SettingKey, _ value: JSON) -> Bool {
    guard let stored = try? storedValue(key) else { return value.isNull }
    return key.rule.coerce(stored) == value
  }

  /// - Returns: the former texts of the rows.
  private func write(rows: Change) throws(SettingError) -> [String: String?] {
    guard !rows.isEmpty else { return [:] }
    let settings = store.settings
    do {
      return try store.connection.transaction { () throws(DatabaseError) -> [String: String?] in
        var former: [String: String?] = [:]
        for (key, value) in rows {
          let old = try settings.text(key.name)
          former[key.name] = .some(old)
          if value.isNull {
            try settings.remove(key.name)
          } else if old.flatMap({ key.rule.coerce(.string($0)) }) != value {
            try settings.set(key.name, to: SettingRule.text(value))
          }
        }
        return former
      }
    } catch {
      throw .database(error)
    }
  }

  private func putBack(_ former: [String: String?]) {
    let settings = store.settings
    do {
      try store.connection.transaction { () throws(DatabaseError) in
        for (name, text) in former {
          if let text { try settings.set(name, to: text) } else { try settings.remove(name) }
        }
      }
    } catch {
      logger.error("Settings could not be put back after a failed change: \(error)")
    }
  }

  private static func shown(_ value: JSON, of key: SettingKey) -> String {
    key.isSecret ? "(hidden)" : SettingRule.text(value)
  }

  // MARK: Changes

  /// Ends with `cancel()`, not with the last reference to it.
  public final class Subscription {
    fileprivate let keys: Set<SettingKey>
    fileprivate let handler: (Change) -> Void
    fileprivate var isCancelled = false

    fileprivate init(_ keys: Set<SettingKey>, _ handler: @escaping (Change) -> Void) {
      self.keys = keys
      self.handler = handler
    }

    public func cancel() { isCancelled = true }
  }

  /// Calls `handler` after each change that has one of `keys`, with the whole change. A change has
  /// all keys that were set, also those that kept their value (host 2.2).
  @discardableResult
  public func onChange(of keys: Set<SettingKey>, _ handler: @escaping (Change) -> Void) -> Subscription {
    let subscription = Subscription(keys, handler)
    subscribers.append(subscription)
    return subscription
  }

  private func notify(_ change: Change) {
    subscribers.removeAll { $0.isCancelled }
    for subscriber in subscribers where !subscriber.isCancelled {
      if change.keys.contains(where: subscriber.keys.contains) { subscriber.handler(change) }
    }
  }

  /// Takes over what others have written to config.json, and tells the subscribers.
  public func reloadConfigFile() async {
    let change = members(named: await file.reload())
    if !change.isEmpty { notify(change) }
  }

  /// Present values of those members of config.json that are settings.
  private func members(named names: Set<String>) -> Change {
    var values: Change = [:]
    for name in names {
      guard let key = SettingKey(named: name), key.source == .configFile else { continue }
      values[key] = valueOrDefault(key) ?? .null
    }
    return values
  }
}
