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
        guard localLogs.listenerCount < LocalLogs.listenerLimit else {
          return failed("Too many clients listen to logs", request)
        }
        return .stream { [localLogs] writer in await localLogs.stream(to: writer) }
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
    guard journalStreams.count < Self.journalStreamLimit else {
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
    return .stream(contentType: wanted.contentType) { [unowned self] writer in
      journalStreams.count += 1
      await Self.copy(stream, to: writer)
      journalStreams.count -= 1
      if stream.lost > 0 { logger.warning("\(stream.lost) entries of the journal could not be read") }
    }
  }

  private static func copy(_ stream: JournalStream, to writer: BodyWriter) async {
    defer { stream.close() }
    do throws(ClientGone) {
      while let piece = await stream.next() { try await writer.write(piece) }
    } catch {}
  }
}

/// How many streams of the journal are open.
final class JournalStreamCount {
  var count = 0
}
