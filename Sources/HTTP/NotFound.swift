/// The page for a path or method that no route has (specification, http-api 2.3).
nonisolated enum NotFound {
  @MainActor
  static func response(to request: Request) -> Response {
    let text = "Cannot \(request.methodText) \(escaped(request.path))"
    var response = Response.html(
      """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <title>Error</title>
      </head>
      <body>
      <pre>\(text)</pre>
      </body>
      </html>

      """, status: 404)
    response.headers = [
      ("Content-Security-Policy", "default-src 'none'"), ("X-Content-Type-Options", "nosniff"),
    ]
    return response
  }

  /// What a URL may not contain is percent-encoded, what HTML gives a meaning is escaped.
  static func escaped(_ path: String) -> String {
    var output = ""
    for scalar in path.unicodeScalars {
      switch scalar {
      case "&": output += "&amp;"
      case "'": output += "&#39;"
      case "<": output += "%3C"
      case ">": output += "%3E"
      case "\"": output += "%22"
      case "`": output += "%60"
      case "{": output += "%7B"
      case "}": output += "%7D"
      case "^": output += "%5E"
      case "\u{21}"..."\u{7E}": output.unicodeScalars.append(scalar)
      default: output += "\u{FFFD}"
      }
    }
    return output
  }
}
