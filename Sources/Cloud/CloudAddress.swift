import HTTPClient

/// How the addresses of calls are put together (cloud 0.2).
public nonisolated enum CloudAddress {
  /// An absolute path on the endpoint's host (RFC 3986 section 5.2.2): a path in the endpoint is lost.
  public static func resolve(_ path: String, on endpoint: String) -> String { origin(of: endpoint) + path }

  /// The endpoint's path is kept, with exactly one slash in between.
  public static func join(_ endpoint: String, _ path: String) -> String {
    var base = endpoint[...]
    while base.last == "/" { base.removeLast() }
    return base + (path.first == "/" ? path : "/\(path)")
  }

  /// `scheme://authority`.
  static func origin(of endpoint: String) -> String {
    let parts = endpoint.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count >= 3, parts[1].isEmpty else { return endpoint }
    return "\(parts[0])//\(parts[2].prefix { $0 != "?" && $0 != "#" })"
  }

  /// A literal of OData's URL conventions: quoted, quotes doubled, percent-encoded.
  public static func literal(_ text: String) -> String {
    "%27"
      + PercentEncoding.queryValue(
        text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''"))
      + "%27"
  }
}
