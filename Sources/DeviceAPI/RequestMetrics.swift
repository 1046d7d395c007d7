import EventLoop
import HTTP

/// Requests by route and status, and how long their answers took. Counting allocates nothing after
/// a route's first answer of a status.
final class RequestMetrics {
  struct RouteMetrics {
    var statuses: [(status: Int, count: Int)] = []
    /// How many took at most as long as the bucket says, not counting the buckets before.
    var buckets = [Int](repeating: 0, count: RequestMetrics.bounds.count + 1)
    var nanoseconds: UInt64 = 0
  }

  /// Upper bounds of the histogram's buckets.
  static let bounds: [(nanoseconds: UInt64, text: String)] = [
    (25_000, "0.000025"), (100_000, "0.0001"), (500_000, "0.0005"), (2_500_000, "0.0025"),
    (10_000_000, "0.01"), (50_000_000, "0.05"), (250_000_000, "0.25"), (1_000_000_000, "1"),
    (10_000_000_000, "10"),
  ]

  /// In the order of their numbers.
  var routes: [(method: String, path: String)] = [] {
    didSet { counts = [RouteMetrics](repeating: RouteMetrics(), count: routes.count + 1) }
  }
  /// The last is of requests that no route answered.
  private(set) var counts: [RouteMetrics] = []

  func count(_ exchange: Exchange) {
    let position = exchange.routeNumber ?? counts.count - 1
    let nanoseconds = exchange.duration.clampedNanoseconds
    var bucket = 0
    while bucket < Self.bounds.count, nanoseconds > Self.bounds[bucket].nanoseconds { bucket += 1 }
    counts[position].buckets[bucket] += 1
    counts[position].nanoseconds &+= nanoseconds
    for at in counts[position].statuses.indices where counts[position].statuses[at].status == exchange.status
    {
      counts[position].statuses[at].count += 1
      return
    }
    counts[position].statuses.append((exchange.status, 1))
  }
}
