import Database
import EventLoop
import Logging
import Model

// Containers that a step of the agent stops (docs/state-engine.md).
//
// An exited container is normally left alone: it was stopped on purpose, or it is the engine's to
// restart. One that the agent stopped on the way to something else is neither. Should the way end
// there (the agent is killed between the stop and what follows, the removal fails, the target goes
// back), nobody but the agent can know that the container has to run again. So its id is written
// down before the engine is asked to stop it, and stays until the container is gone or runs again.
//
// A container that runs although it is written down may still be stopped: the engine goes on with
// what a killed agent asked for. Only when it has run for longer than that can take, the note goes.

struct OwnStops {
  fileprivate(set) var ids: Set<String> = []
  /// By container id: since when it is seen running.
  fileprivate var running: [String: MonotonicTime] = [:]
  /// When the next note is to be looked at again.
  fileprivate(set) var nextCheck: MonotonicTime?

  /// Beyond the container's own time to stop.
  static let lateStop = Duration.seconds(60)
}

extension StateEngine {
  func loadOwnStops() {
    do throws(DatabaseError) { ownStops.ids = try store.ownStops.all() } catch {
      logger.error("Cannot read which containers were stopped by the agent: \(error)")
    }
  }

  /// Writes down what the steps are about to stop, in one go.
  func noteOwnStops(_ steps: [PlannedStep]) {
    let stopped = steps.compactMap(\.step.stopped).filter(\.config.isRunning).compactMap(\.container?.id)
    let new = Set(stopped).subtracting(ownStops.ids)
    guard !new.isEmpty else { return }
    ownStops.ids.formUnion(new)
    do throws(DatabaseError) { try store.ownStops.insert(new) } catch {
      logger.error("Cannot store which containers the agent stops: \(error)")
    }
  }

  func forgetOwnStops(_ ids: some Sequence<String>) {
    let known = ownStops.ids.intersection(ids)
    guard !known.isEmpty else { return }
    ownStops.ids.subtract(known)
    do throws(DatabaseError) { try store.ownStops.remove(known) } catch {
      logger.error("Cannot store which containers the agent stopped: \(error)")
    }
  }

  /// Containers that are gone need no note. Not done at every removal: a write takes its time, and
  /// the next container waits.
  func forgetGoneStops() {
    forgetOwnStops(ownStops.ids.filter { current.services[$0] == nil })
  }

  /// Ends the notes of containers that were not stopped after all, or were started by someone else.
  func reviewOwnStops(at now: MonotonicTime) {
    ownStops.nextCheck = nil
    guard !ownStops.ids.isEmpty else { return }
    let stopping = Set(inFlight.values.compactMap(\.step.stopped?.container?.id))
    var running: [String: MonotonicTime] = [:]
    var over: [String] = []
    for id in ownStops.ids.subtracting(stopping) {
      guard let service = current.services[id], service.config.isRunning else { continue }
      let since = ownStops.running[id] ?? now
      let end = since + .seconds(service.config.stopGracePeriod) + OwnStops.lateStop
      guard end > now else {
        over.append(id)
        continue
      }
      running[id] = since
      ownStops.nextCheck = ownStops.nextCheck.map { min($0, end) } ?? end
    }
    ownStops.running = running
    forgetOwnStops(over)
  }

  /// The container has ended because the agent stopped it: that says nothing about the container.
  func isEndOurs(_ service: Service) -> Bool {
    guard let container = service.container, container.setAsidePolicy == nil else { return false }
    return container.status == .engine("exited") && ownStops.ids.contains(container.id)
  }
}

nonisolated extension Step {
  /// The container that the step stops.
  var stopped: Service? {
    switch self {
    case .kill(let service), .stop(let service), .setAside(let service): service
    default: nil
    }
  }
}
