/// One line of the log stream (specification, cloud 4.1).
public nonisolated struct LogRecord: Sendable, Hashable {
  public nonisolated enum Source: Sendable, Hashable {
    /// A container of a service.
    case service(id: Int, name: String)
    /// One of the host's units that are followed.
    case hostUnit
    /// The agent itself.
    case agent
  }

  public var source: Source
  public var message: String
  /// Milliseconds since the epoch.
  public var timestamp: Int
  public var isError: Bool

  public init(_ source: Source, message: String, timestamp: Int, isError: Bool) {
    self.source = source
    self.message = message
    self.timestamp = timestamp
    self.isError = isError
  }
}

/// A container whose lines are wanted.
public nonisolated struct LoggedContainer: Sendable, Hashable {
  /// What a service lets through (`BALENA_LOGS_LEVEL`; specification, cloud 4.2).
  public nonisolated enum Level: Sendable, Hashable {
    case all, errors, none

    /// `none`; `err` or `error`; anything else is everything.
    public init(_ text: String?) {
      switch text {
      case "none": self = .none
      case "err", "error": self = .errors
      default: self = .all
      }
    }
  }

  public var serviceId: Int
  public var serviceName: String
  public var level: Level

  public init(serviceId: Int, serviceName: String, level: Level) {
    self.serviceId = serviceId
    self.serviceName = serviceName
    self.level = level
  }
}
