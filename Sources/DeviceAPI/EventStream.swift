import EventLoop
import HTTP
import JSON

// `GET /v2/events`: server-sent events (HTML standard, section 9.2) of what happens on the device.
extension DeviceAPI {
  /// A client without `Last-Event-ID`, or with one whose successors are gone, first gets `snapshot`.
  func eventStream(_ request: Request) -> Response {
    guard let place = events.places.take() else {
      return failed("Too many clients listen to events", request)
    }
    let caller = request.caller
    let last = request.header("Last-Event-ID") ?? request.query("lastEventId").first
    let headers = [(name: "Cache-Control", value: "no-store")]
    return .stream(contentType: "text/event-stream", headers: headers) { [unowned self] writer in
      events.enter()
      defer {
        events.leave()
        place.giveBack()
      }
      await withTaskCancellationHandler {
        await send(to: writer, caller, after: last)
      } onCancel: {
        Task { @MainActor [weak self] in self?.events.wake() }
      }
    }
  }

  private func send(to writer: BodyWriter, _ caller: Caller, after last: String?) async {
    var position = last.flatMap(number) ?? 0
    do throws(ClientGone) {
      while !Task.isCancelled {
        guard position > 0, let batch = events.events(from: position) else {
          position = events.position
          let snapshot = events.snapshot(covers: caller.covers)
          try await writer.write(text("snapshot", number: position - 1, snapshot))
          continue
        }
        position = events.position
        var output = ""
        for event in batch
        where event.appId.map(caller.covers) ?? (event.name == "state" || caller.isUnrestricted) {
          output += text(event.name, number: event.number, event.data)
        }
        if output.isEmpty {
          await events.change()
        } else {
          try await writer.write(output)
        }
      }
    } catch {}
  }

  private func text(_ name: String, number: UInt64, _ data: JSON) -> String {
    "id: \(events.run)-\(number)\nevent: \(name)\ndata: \(data.serialized())\n\n"
  }

  /// The number after that of an id of this process.
  private func number(_ id: String) -> UInt64? {
    let parts = id.split(separator: "-")
    guard parts.count == 2, parts[0] == events.run, let number = UInt64(parts[1]), number < .max else {
      return nil
    }
    return number + 1
  }
}
