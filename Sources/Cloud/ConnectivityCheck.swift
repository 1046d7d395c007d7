import EventLoop
public import HTTPClient
public import HostConfiguration
public import Logging

/// Whether the device reaches its cloud: shown on its light, and said in the log (host 9.1).
///
/// A TCP connection to the endpoint is tried at the start, when the network has changed, and when a call of the
/// cloud found no way; then again and again until there is one. It takes two failures in a row to be offline,
/// and an answer of the cloud is as good as a connection. A device that is online and does nothing tries
/// nothing, nor does one whose VPN is up. It does not count for the device's health.
public final class ConnectivityCheck {
  /// A connection that takes longer is none.
  public static let connectLimit = Duration.seconds(10)
  /// While there is none: the first and the longest wait.
  public static let offlineIntervals = Duration.seconds(10)...Duration.seconds(300)
  /// After the first failure.
  public static let intervalInDoubt = Duration.seconds(2)
  static let failuresToBeOffline = 2

  /// Nil until the first result.
  public private(set) var isConnected: Bool?
  /// Called with each change of `isConnected`.
  public var onChange: (Bool) -> Void = { _ in }

  private let settings: Settings
  private let http: HTTPClient
  private let logger: Logger
  private let loop: EventLoop
  private var task: Task<Void, Never>?
  private var timer: LoopTimer?
  private var failures = 0

  /// Whether the VPN stands in for the check.
  public var isPaused = false {
    didSet { if isPaused != oldValue { check() } }
  }

  public init(settings: Settings, http: HTTPClient, logger: Logger, loop: EventLoop = .shared) {
    self.settings = settings
    self.http = http
    self.logger = logger
    self.loop = loop
  }

  public func start() {
    settings.onChange(of: [.connectivityCheckEnabled, .apiEndpoint, .apiEndpointOverride]) { [weak self] _ in
      self?.check()
    }
    check()
  }

  /// Checks now. One that is under way counts.
  public func check() {
    timer?.cancel()
    guard let url = Self.probe(settings.effectiveApiEndpoint) else {
      end()
      if isConnected == false { onChange(true) }
      isConnected = nil
      return
    }
    guard settings.bool(.connectivityCheckEnabled), !isPaused else {
      end()
      note(true)
      return
    }
    guard task == nil else { return }
    task = Task { [weak self] in await self?.probe(url) }
  }

  /// A call of the cloud got no answer, for whatever reason. A device that is known to be offline has its
  /// own rhythm.
  public func suspect() {
    if isConnected != false { check() }
  }

  /// The cloud has answered.
  public func confirm() {
    guard isConnected != true || failures > 0 else { return }
    end()
    timer?.cancel()
    note(true)
  }

  private func end() {
    task?.cancel()
    task = nil
    failures = 0
  }

  private func probe(_ url: String) async {
    var request = ClientRequest("GET", url, timeouts: .init(connect: Self.connectLimit, firstByte: nil))
    request.connectsOnly = true
    do throws(ClientError) {
      _ = try await http.send(request)
      guard !Task.isCancelled else { return }
      failures = 0
      note(true)
    } catch {
      guard !Task.isCancelled else { return }
      failures += 1
      logger.debug("No connection to the cloud: \(error)")
      if failures >= Self.failuresToBeOffline { note(false) }
    }
    task = nil
    guard failures > 0 else { return }
    let bounds = Self.offlineIntervals
    let delay =
      failures < Self.failuresToBeOffline
      ? Self.intervalInDoubt
      : min(bounds.lowerBound * (1 << min(failures - Self.failuresToBeOffline, 10)), bounds.upperBound)
    timer = loop.schedule(after: delay, tolerance: delay / 4) { [weak self] in self?.check() }
  }

  private func note(_ isConnected: Bool) {
    guard isConnected != self.isConnected else { return }
    self.isConnected = isConnected
    logger.notice(isConnected ? "Internet Connectivity: OK" : "Waiting for connectivity...")
    onChange(isConnected)
  }

  /// The endpoint's host and port as an address without TLS; nil without an endpoint.
  static func probe(_ endpoint: String) -> String? {
    let origin = CloudAddress.origin(of: endpoint)
    let parts = origin.split(separator: "/", omittingEmptySubsequences: true)
    guard parts.count == 2, parts[0] == "https:" || parts[0] == "http:" else { return nil }
    let authority = parts[1].split(separator: "@").last ?? parts[1]
    let port = authority.last == "]" ? nil : authority.split(separator: "]").last
    return "http://\(authority)\(port?.contains(":") == true ? "" : parts[0] == "https:" ? ":443" : ":80")/"
  }
}
