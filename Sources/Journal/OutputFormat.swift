/// The output formats of `journalctl -o` (journalctl(1), systemd 252).
public nonisolated enum OutputFormat: String, CaseIterable, Sendable {
  case short
  case shortFull = "short-full"
  case shortISO = "short-iso"
  case shortISOPrecise = "short-iso-precise"
  case shortPrecise = "short-precise"
  case shortMonotonic = "short-monotonic"
  case shortDelta = "short-delta"
  case shortUnix = "short-unix"
  case withUnit = "with-unit"
  case verbose
  case export
  case json
  case jsonPretty = "json-pretty"
  case jsonSSE = "json-sse"
  case jsonSeq = "json-seq"
  case cat

  /// Formats for programs have entries only; the others have lines about boots, and say so when
  /// there is nothing.
  var isQuiet: Bool {
    switch self {
    case .export, .json, .jsonPretty, .jsonSSE, .jsonSeq, .cat: true
    default: false
    }
  }

  /// What to call the output in `Content-Type`, for a client that asks for it by `Accept`.
  public static let eventStreamType = "text/event-stream"
}
