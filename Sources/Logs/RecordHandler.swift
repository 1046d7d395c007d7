import Logging

/// Hands each record to the destination, in its form.
nonisolated struct RecordHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level
  let label: String
  let destination: LogDestination

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    switch destination {
    case .journal:
      JournalRecord.send(
        event, label: label, metadata: metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }))
    case .standardError: LogLine.write(event)
    }
  }
}
