import HostConfiguration
public import Journal

// Where the journal is (host 2.4).
extension Agent {
  /// A named directory; else the journal of the host whose file system is mounted here; else this
  /// system's own.
  public var journalSource: JournalReader.Source {
    if let directory = options.journalDirectory { return .directory(directory) }
    return paths.hostRoot == "/" ? .system : .hostRoot(paths.hostRoot)
  }

  public var areLogsSent: Bool { settings.bool(.loggingEnabled) }
}
