import HostConfiguration
import JSON
import Testing

@Suite("Extra firmware volume in config.json")
struct ExtraFirmwareTests {
  nonisolated static let missing: [(String?, String)] = [
    (nil, #"{"kernel":{"extraFirmwareVol":"extra-firmware"}}"#),
    ("null", #"{"kernel":{"extraFirmwareVol":"extra-firmware"}}"#),
    (#"{"a":1.50}"#, #"{"a":1.50,"kernel":{"extraFirmwareVol":"extra-firmware"}}"#),
    (#"{"kernel":{"x":[1]},"b":{}}"#, #"{"kernel":{"x":[1],"extraFirmwareVol":"extra-firmware"},"b":{}}"#),
    (#"{"kernel":{"extraFirmwareVol":"other"}}"#, #"{"kernel":{"extraFirmwareVol":"extra-firmware"}}"#),
  ]

  @Test("a section without the name gets it, and keeps the rest", arguments: missing)
  func naming(_ os: String?, _ expected: String) throws {
    let os = try os.map { try JSON(parsing: $0) }
    let named = try #require(ExtraFirmware.naming(in: os))
    #expect("\(named)" == expected)
    #expect(ExtraFirmware(of: named) == .named)
    #expect(ExtraFirmware.naming(in: named) == nil)
  }

  nonisolated static let malformed = [
    ("5", "os"), (#""text""#, "os"), ("[]", "os"), (#"{"kernel":true}"#, "os.kernel"),
    (#"{"kernel":[{}]}"#, "os.kernel"),
  ]

  @Test("a malformed section is told, and there is nothing to write", arguments: malformed)
  func malformed(_ os: String, _ section: String) throws {
    let os = try JSON(parsing: os)
    #expect(ExtraFirmware(of: os) == .malformed(section: section))
    #expect(ExtraFirmware.naming(in: os) == nil)
  }

  @Test("a former name is told")
  func former() throws {
    let os = try JSON(parsing: #"{"kernel":{"extraFirmwareVol":"other"}}"#)
    #expect(ExtraFirmware(of: os) == .unnamed(old: "other"))
  }
}
