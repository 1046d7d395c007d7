import CSystemd
import HTTP
import JSON
import Journal
import Logging

// Logs (http-api 5.17, 10).
extension DeviceAPI {
  /// Open at the same time; each costs a few hundred kilobytes and its share of the processor.
  static let journalStreamLimit = 16

  var journalRoutes: [APIRoute] {
    [
      APIRoute(.post, "/v2/journal-logs", .any) { [unowned self] request in journalLogs(request) },
      APIRoute(.get, "/v2/local/logs", .any) { [unowned self] request in
        guard let place = localLogs.places.take() else {
          return failed("Too many clients listen to logs", request)
        }
        return .stream { [localLogs] writer in
          await localLogs.stream(to: writer)
          place.giveBack()
        }
      },
    ]
  }

  /// Everything that can be wrong is found before the first byte.
  private func journalLogs(_ request: Request) -> Response {
    let wanted: JournalRequest
    do throws(JournalRequest.Refusal) {
      wanted = try JournalRequest(
        request.json, accept: request.header("Accept"),
        now: RealTime.microseconds)
    } catch {
      return .failure(error.message, status: 400)
    }
    guard let place = journalStreams.take() else {
      return failed("Too many journal streams: \(Self.journalStreamLimit) are open", request)
    }
    let stream: JournalStream
    do throws(JournalError) {
      stream = try JournalStream(host.journalSource, wanted.query)
    } catch {
      if wanted.query.cursor != nil, error.code == EINVAL {
        return .failure("cursor is not a cursor of the journal", status: 400)
      }
      return failed("Cannot read the journal: \(error.description)", request)
    }
    stream.onLoss = { [logger] lost, pages in
      logger.warning(
        "A file of the journal was cut off or damaged: \(pages) pages lost, a stream misses entries in \(lost) places"
      )
    }
    let headers = wanted.contentType == nil ? [] : [("Cache-Control", "no-store")]
    return .stream(contentType: wanted.contentType, headers: headers) { writer in
      await Self.copy(stream, to: writer)
      place.giveBack()
    }
  }

  private static func copy(_ stream: JournalStream, to writer: BodyWriter) async {
    defer { stream.close() }
    do throws(ClientGone) {
      while let piece = await stream.next() { try await writer.write(piece) }
    } catch {}
  }
}
