import Database
import Glibc
import HTTPClient
import HostConfiguration
import JSON
import TestSupport

@testable import Cloud

/// A device whose cloud nobody plays: what the link decides by itself.
final class CloudFixture: CloudHost {
  let scratch = Scratch()
  let store: Store
  let settings: Settings
  let client: CloudClient
  var logged: [String] = []
  var taken: [JSON] = []
  var applied = 0
  var refusal: TargetRefusal?
  var refused = 0
  var currentConfiguration: [String: String] = [:]

  init(_ config: String = "{}") async throws {
    LoopDriver.start()
    store = try Store.inMemory()
    write(config, to: scratch.file("config.json"))
    let file = try await ConfigFile(
      path: scratch.file("config.json"), bootDirectory: "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    settings = Settings(file: file, store: store, logger: quiet)
    client = CloudClient(settings: settings, http: HTTPClient(), logger: quiet) { "test" }
  }

  /// What somebody else writes to config.json.
  func join(_ config: String, isSaid: Bool = true) async {
    write(config, to: scratch.file("config.json"))
    if isSaid { await settings.reloadConfigFile() }
  }

  var version: String { "1.2.3" }
  var deviceType: String { "test" }
  var isLocalMode: Bool { false }
  func preloadIsTried() async {}
  var isTargetStored: Bool { !taken.isEmpty }

  func takeTarget(_ document: JSON, force: Bool) throws(TargetRefusal) {
    if let refusal {
      refused += 1
      throw refusal
    }
    taken.append(document)
  }
  func applyTarget(force: Bool, cancel: Bool) { applied += 1 }

  var deviceFields: JSONObject { [:] }
  func metrics() async -> JSONObject { [:] }
  var reportedApps: JSONObject? { nil }
  func systemLog(_ text: String, isError: Bool) { logged.append(text) }
  var formerIdentityPath: String { scratch.file("former-identities.json") }
  var reportCachePath: String { scratch.file("state-report-cache") }
}

/// A listening socket, from which the test takes connections when it wants to.
final class Listener {
  private let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  private(set) var port = 0
  private var accepted: [Int32] = []

  init() {
    // Little is taken of what nobody reads.
    var size: Int32 = 4096
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutableBytes(of: &address) {
      let pointer = $0.baseAddress?.assumingMemoryBound(to: sockaddr.self)
      _ = bind(descriptor, pointer, length)
      getsockname(descriptor, pointer, &length)
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    listen(descriptor, 16)
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
  }

  isolated deinit { for each in accepted + [descriptor] { close(each) } }

  /// Takes those who have connected since.
  private func take() {
    while case let peer = accept(descriptor, nil, nil), peer >= 0 { accepted.append(peer) }
  }

  /// Somebody has asked for something.
  var isAsked: Bool {
    take()
    var byte: UInt8 = 0
    return accepted.contains { recv($0, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0 }
  }

  /// Says it to everybody who has connected, and reads nothing.
  func answer(_ text: String) {
    take()
    for peer in accepted { _ = send(peer, text, text.utf8.count, Int32(MSG_NOSIGNAL)) }
  }
}
