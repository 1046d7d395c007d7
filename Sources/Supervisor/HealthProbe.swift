import CSystemd
import EventLoop
import Glibc
import HTTP
import HTTPClient
import HostConfiguration

/// `balena-supervisor healthcheck`: asks a running agent for its health.
public enum HealthProbe {
  /// Longer than any healthy answer takes; container health checks allow 30 seconds.
  private static let timeout = Duration.seconds(10)

  /// Ends the process: 0 when `GET /v1/healthy` answers 200, else 1 with a line that says why.
  ///
  /// - Parameter listen: where the agent listens; by default this machine and `LISTEN_PORT`.
  public nonisolated static func main(listen: String?) -> Never {
    EventLoop.main { await run(listen: listen) }
  }

  private static func run(listen: String?) async -> Int32 {
    let environment = processEnvironment()
    let port = HostPaths.value(of: "LISTEN_PORT", in: environment) ?? "48484"
    let text = listen ?? HostPaths.value(of: "LISTEN_ADDRESS", in: environment) ?? "127.0.0.1:\(port)"
    guard let address = ListenSocket(text) else {
      printError("'\(text)' is no address: give address:port or unix:///path")
      return 1
    }
    var timeouts = ClientRequest.Timeouts()
    timeouts.total = timeout
    let request: ClientRequest
    switch address {
    case .unix(let path):
      request = ClientRequest(
        "GET", "http://localhost/v1/healthy", unixSocket: path, timeouts: timeouts)
    case .tcp(let host, let port):
      let name = host.map { $0.contains(":") ? "[\($0)]" : $0 } ?? "127.0.0.1"
      request = ClientRequest("GET", "http://\(name):\(port)/v1/healthy", timeouts: timeouts)
    case .tcpFree, .descriptor: return 1
    }
    do throws(ClientError) {
      let response = try await HTTPClient.shared.send(request)
      if response.status == 200 { return 0 }
      printError("\(text) answers \(response.status)")
    } catch {
      printError("\(text): \(error.message)")
    }
    return 1
  }
}
