public import Engine
import JSON
public import Journal
public import Logging

/// Says once of each service whose container logs elsewhere than to the journal that its lines cannot be had.
///
/// The agent never asks for a log driver: it is the engine's default at the time when the container was
/// made (target-state 6.1), so each container is looked at once.
public final class LogDriverCheck {
  private let engine: EngineClient
  private let logger: Logger
  private let report: (String) -> Bool
  private var seen: Set<String> = []
  private var said: Set<String> = []
  private var logged: Set<String> = []
  private var work: Task<Void, Never>?

  /// - Parameter report: takes the sentence for the device's log stream; false when nobody has seen it, and
  ///   it is to be said again.
  public init(_ engine: EngineClient, logger: Logger, report: @escaping (String) -> Bool) {
    self.engine = engine
    self.logger = logger
    self.report = report
  }

  /// Looks at those that were not looked at before, one after another.
  public func look(at containers: [String: LoggedContainer]) {
    let new = containers.filter { !seen.contains($0.key) && $0.value.level != .none }
    seen.formIntersection(containers.keys)
    guard !new.isEmpty else { return }
    seen.formUnion(new.keys)
    let former = work
    work = Task { [weak self] in
      await former?.value
      for (id, container) in new.sorted(by: { $0.key < $1.key }) { await self?.look(at: id, container) }
    }
  }

  private func look(at id: String, _ container: LoggedContainer) async {
    let found: JSON
    do throws(EngineError) { found = try await engine.inspectContainer(id) } catch {
      // Gone, or asked again with the next change.
      if error.kind != .status(404) { seen.remove(id) }
      return
    }
    guard let driver = found["HostConfig"]?["LogConfig"]?["Type"]?.stringValue, driver != "journald" else {
      return
    }
    let subject = "\(container.serviceName) \(driver)"
    guard !said.contains(subject) else { return }
    let text =
      "The container of \(container.serviceName) logs to '\(driver)' and not to journald: its lines are missing in the log stream"
    if logged.insert(subject).inserted { logger.warning("\(text)") }
    if report(text) { said.insert(subject) } else { seen.remove(id) }
  }
}
