import HTTP

nonisolated extension Subject {
  /// The first two bytes choose how the rest arrives; requests are the same however they are divided.
  public static let request = Subject(name: "request") { bytes in
    guard bytes.count > 2 else { return }
    let stream = Array(bytes.dropFirst(2))
    let whole = RequestReading.account(of: stream)
    let divided = RequestReading.account(
      of: stream, division: [Int(bytes[0] & 15) + 1, Int(bytes[1] & 63) + 1])
    precondition(whole == divided, "divided input reads differently:\n\(whole)\n\(divided)")
    precondition(
      whole == RequestReading.account(of: stream, division: [1]), "bytes one by one read differently")
  }

  private static let routes = RequestReading.Table([
    (.get, "/"), (.get, "/ping"), (.post, "/v1/update"), (.get, "/v1/apps/:appId"),
    (.post, "/v1/apps/:appId/stop"), (.get, "/v2/applications/:appId/state"),
    (.post, "/v2/applications/:appId/restart-service"), (.get, "/v2/applications/state"),
  ])

  /// A path: its letters' case and a slash at its end decide nothing, parameters are whole segments.
  public static let route = Subject(name: "route") { bytes in
    for method in [Method.get, .head, .post] {
      let (route, parameters) = routes.match(method, bytes)
      for range in parameters {
        precondition(!bytes[range].contains(UInt8(ascii: "/")), "a parameter of two segments")
        precondition(range.lowerBound > 0 && bytes[range.lowerBound - 1] == UInt8(ascii: "/"))
      }
      let raised = bytes.map { (0x61...0x7A).contains($0) ? $0 ^ 0x20 : $0 }
      precondition(routes.match(method, raised).route == route, "case decides")
      if route != nil, bytes.last != UInt8(ascii: "/") {
        precondition(routes.match(method, bytes + [UInt8(ascii: "/")]).route == route, "a slash decides")
      }
    }
  }
}
