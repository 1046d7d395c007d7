import Testing

@testable import Cloud

/// What is tried to find out whether the cloud is within reach (host 9.1).
struct ConnectivityTests {
  @Test(arguments: [
    ("https://api.test", "http://api.test:443/"), ("http://api.test/base?x", "http://api.test:80/"),
    ("https://user@api.test:8443/", "http://api.test:8443/"), ("https://[fd00::1]", "http://[fd00::1]:443/"),
    ("https://[fd00::1]:81/x", "http://[fd00::1]:81/"), ("", nil), ("api.test", nil), ("ftp://api.test", nil),
  ])
  func theEndpointsHostAndPortAreTried(endpoint: String, address: String?) {
    #expect(ConnectivityCheck.probe(endpoint) == address)
  }
}
