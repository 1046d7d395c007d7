import HTTP

nonisolated extension Subject {
  /// The first byte chooses the media type and the content coding, the rest is the body (http-api 2.4).
  public static let body = Subject(name: "body") { bytes in
    guard let choice = bytes.first else { return }
    let types = [
      "application/json", "application/json; charset=utf-16", "application/json; charset=UTF-32",
      "application/x-www-form-urlencoded",
    ]
    let codings = [nil, "gzip", "deflate", "identity"]
    _ = try? BodyParser.parse(
      contentType: types[Int(choice & 3)], contentEncoding: codings[Int(choice >> 2 & 3)],
      bytes: Array(bytes.dropFirst()))
  }
}
