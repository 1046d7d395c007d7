/// What became of the downloads since the agent started; counters only go up.
public nonisolated struct ImageMetrics: Sendable, Hashable {
  /// Pulls that the engine was asked for, each try of a delta included.
  public var pulls = 0
  /// Of those, pulls of deltas.
  public var deltaPulls = 0
  public var pullsCompleted = 0
  /// Images that were downloaded and noted in the table.
  public var downloadsCompleted = 0
  /// Downloads that failed and are tried again later.
  public var downloadsFailed = 0
  /// Answers that a delta is not ready, so that it is asked for again.
  public var deltasPending = 0
  /// Downloads that a newer target made superfluous.
  public var downloadsCancelled = 0
  /// Downloads of an image that had failed before.
  public var retries = 0
  /// Bytes that the engine said it received from registries, compressed as they were sent.
  public var bytesReceived = 0
  /// Images found on the engine, so that nothing was downloaded.
  public var found = 0
  public var removed = 0
  public var removalsFailed = 0
  /// Images without a name, and of older agents, that were cleaned up.
  public var cleanedUp = 0

  public init() {}
}
