import CCurl
import EventLoop

/// Every outgoing HTTP request of the program, by libcurl on the event loop.
///
/// The model: one `MultiHandle` (libcurl's multi interface) tells the loop which descriptors
/// to watch and when to call back; nothing polls, and an idle client has no timer. A request
/// is a `Transfer`, which owns an easy handle for its time. libcurl's callbacks only move
/// bytes into or out of the transfer and resume the task that waits; they never call libcurl,
/// nor user code. Back-pressure is libcurl's pause: a callback that has no room (or no data)
/// says so, and the task that makes room (or brings data) unpauses.
///
/// Connections and TLS sessions are kept by the multi handle and shared by all requests.
/// Proxy variables, cookies, `.netrc` and `Expect: 100-continue` are off (specification,
/// cloud 0.3).
public final class HTTPClient {
  /// The client of the program; libcurl is initialised with its first request.
  public static let shared = HTTPClient()

  /// Sent with every request that brings no `User-Agent` of its own; nil sends none.
  public var userAgent: String?

  private var roots: TrustRoots?
  private var multi: MultiHandle?
  private let multicast = MulticastResolver()

  public init(userAgent: String? = nil) { self.userAgent = userAgent }

  init(roots: TrustRoots) { self.roots = roots }

  /// Certificates to trust beyond the system's.
  ///
  /// - Parameter texts: PEM; blocks that cannot be read are left out.
  /// - Returns: what each text holds; nil when they are those of before.
  @discardableResult
  public func setExtraRoots(_ texts: [String]) -> [PEMCertificates]? {
    var roots = roots ?? TrustRoots()
    defer { self.roots = roots }
    return roots.setExtra(texts)
  }

  /// Sends a request and reads the answer to its end.
  ///
  /// A cancelled task ends the transfer. Any status is an answer.
  public func send(_ request: ClientRequest) async throws(ClientError) -> ClientResponse {
    do throws(ClientError) { return try await sendOnce(request) } catch {
      return try await sendOnce(try await withAddresses(request, after: error))
    }
  }

  private func sendOnce(_ request: ClientRequest) async throws(ClientError) -> ClientResponse {
    guard request.mayLoseKey else { return try await exchange(request) }
    var request = request
    request.followsRedirects = false
    let answer = try await exchange(request)
    guard (300...399).contains(answer.status), let location = answer.headers["Location"] else {
      return answer
    }
    request.followsRedirects = true
    if request.isSecured(by: location) {
      request.url = location
      request.maximumRedirects -= 1
    }
    return try await exchange(request)
  }

  private func exchange(_ request: ClientRequest) async throws(ClientError) -> ClientResponse {
    let transfer = try begin(request, sink: .whole(limit: request.bodyLimit))
    await transfer.wait(for: .end)
    return try transfer.wholeAnswer()
  }

  /// Sends a request and returns when the answer's head is there. The body is pulled by its reader.
  ///
  /// A task cancelled before the head, or while it waits for a piece of the body, ends the transfer.
  public func stream(_ request: ClientRequest) async throws(ClientError) -> StreamedResponse {
    do throws(ClientError) { return try await streamOnce(request) } catch {
      return try await streamOnce(try await withAddresses(request, after: error))
    }
  }

  private func streamOnce(_ request: ClientRequest) async throws(ClientError) -> StreamedResponse {
    let transfer = try begin(request, sink: .queue)
    await transfer.wait(for: .head)
    return try transfer.streamedAnswer()
  }

  /// The request with what multicast DNS says of its host, when a look-up has failed. A body that is streamed
  /// has gone with the first try; the next request finds the addresses.
  private func withAddresses(
    _ request: ClientRequest, after error: ClientError
  ) async throws(ClientError) -> ClientRequest {
    guard error.kind == .nameNotResolved, request.unixSocket == nil, let host = request.authority?.host,
      MulticastResolver.covers(host), multicast.cached(host) == nil
    else { throw error }
    let addresses = await multicast.addresses(of: host)
    if case .stream = request.body { throw error }
    guard !addresses.isEmpty, !Task.isCancelled else { throw error }
    return request
  }

  private func begin(_ request: ClientRequest, sink: Transfer.Sink) throws(ClientError) -> Transfer {
    if Task.isCancelled { throw Transfer.cancellation(of: request, phase: .connecting) }
    let multi = try handle(for: request)
    var request = request
    if let host = request.authority?.host, let addresses = multicast.cached(host) {
      request.addresses = addresses
    }
    let roots = roots ?? TrustRoots()
    self.roots = roots
    let transfer = try Transfer(request, sink: sink, userAgent: userAgent, roots: roots, multi: multi)
    try transfer.start()
    return transfer
  }

  private func handle(for request: ClientRequest) throws(ClientError) -> MultiHandle {
    if let multi { return multi }
    guard let multi = MultiHandle() else {
      throw ClientError(
        kind: .other, phase: .connecting, message: "\(request.peer): libcurl cannot be initialised")
    }
    self.multi = multi
    return multi
  }
}

extension HTTPClient {
  /// Whether libcurl will be called by time; an idle client has no reason to.
  var hasTimer: Bool { multi?.hasTimer ?? false }
}
