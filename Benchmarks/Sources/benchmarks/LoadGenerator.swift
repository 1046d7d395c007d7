import Foundation

/// One run of wrk.
nonisolated struct LoadResult: Codable {
  var requestsPerSecond: Double
  /// Microseconds.
  var p50: Double
  var p99: Double
  var p999: Double
}

nonisolated private struct LoadReport: Decodable {
  var requests: Double
  var microseconds: Double
  var p50: Double
  var p99: Double
  var p999: Double
  var errors: Int
  var badStatus: Int
}

struct LoadGenerator {
  let script: String

  /// - Throws: `Failure` when a request failed or was not answered with a status below 400: the figures of a
  ///   server that refuses say nothing.
  ///
  /// - Parameter header: a field that each request has.
  func run(url: String, connections: Int, seconds: Int, header: String? = nil) throws -> LoadResult {
    let fields = header.map { ["-H", $0] } ?? []
    let words = Command.pinned(
      ["wrk", "-t1", "-c\(connections)", "-d\(seconds)s", "-s", script] + fields + [url], to: 1)
    let output = try Command.run(words)
    guard let line = output.split(separator: "\n").last(where: { $0.hasPrefix("{") }),
      let report = try? JSONDecoder().decode(LoadReport.self, from: Data(line.utf8)), report.microseconds > 0
    else { throw Failure("wrk said: \(output)") }
    guard report.errors == 0, report.badStatus == 0 else {
      throw Failure("\(url): \(report.errors) failed requests, \(report.badStatus) refused ones")
    }
    return LoadResult(
      requestsPerSecond: report.requests / report.microseconds * 1_000_000, p50: report.p50, p99: report.p99,
      p999: report.p999)
  }
}

nonisolated extension Sequence where Element == Double {
  /// The middle value; the mean of the two middle ones of an even number. Zero of nothing.
  var median: Double {
    let ordered = sorted()
    guard !ordered.isEmpty else { return 0 }
    let middle = ordered.count / 2
    return ordered.count.isMultiple(of: 2) ? (ordered[middle - 1] + ordered[middle]) / 2 : ordered[middle]
  }
}
