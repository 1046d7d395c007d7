import Testing

@testable import Cloud

/// How addresses are put together (cloud 0.2).
struct AddressTests {
  @Test func anAbsolutePathTakesThePlaceOfTheEndpointsPath() {
    #expect(CloudAddress.resolve("/v7/x", on: "https://api.test:8443/base/") == "https://api.test:8443/v7/x")
    #expect(CloudAddress.resolve("/v7/x", on: "https://api.test") == "https://api.test/v7/x")
    #expect(CloudAddress.resolve("/v7/x", on: "https://api.test?a=b") == "https://api.test/v7/x")
  }

  @Test func joinedPathsHaveOneSlash() {
    for endpoint in ["https://api.test/base", "https://api.test/base/", "https://api.test/base//"] {
      #expect(CloudAddress.join(endpoint, "device/register") == "https://api.test/base/device/register")
      #expect(CloudAddress.join(endpoint, "/device/register") == "https://api.test/base/device/register")
    }
  }

  @Test func literalsAreQuotedAndEncoded() {
    #expect(CloudAddress.literal("ab12") == "%27ab12%27")
    #expect(CloudAddress.literal("a'b c&d") == "%27a%27%27b%20c%26d%27")
    #expect(CloudAddress.literal("ü") == "%27%C3%BC%27")
  }
}
