/// How to ask for deltas (state-engine 6.6).
public nonisolated struct DeltaSettings: Sendable, Hashable {
  /// `SUPERVISOR_DELTA_VERSION`; 3 is asked for when it is 2 or 3.
  public var version: Int
  /// Base of the service that makes deltas, such as `https://delta.balena-cloud.com`.
  public var endpoint: String
  /// Base of the service that makes tokens.
  public var apiEndpoint: String
  /// `d_<device uuid>`
  public var username: String
  public var key: String
  /// Of the request for a token, and of that for a delta.
  public var requestTimeout: Duration
  /// Of all tries to apply a delta; nil: without limit.
  public var applyTimeout: Duration?
  /// `User-Agent` of both requests; nil sends none.
  public var userAgent: String?

  public init(
    version: Int, endpoint: String, apiEndpoint: String, username: String, key: String,
    requestTimeout: Duration, applyTimeout: Duration?, userAgent: String? = nil
  ) {
    self.version = version
    self.endpoint = endpoint
    self.apiEndpoint = apiEndpoint
    self.username = username
    self.key = key
    self.requestTimeout = requestTimeout
    self.applyTimeout = applyTimeout
    self.userAgent = userAgent
  }
}
