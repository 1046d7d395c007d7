import Database
import HostConfiguration
import JSON
import TestSupport
import Testing

@Suite("Device configuration")
struct DeviceConfigurationTests {
  nonisolated static let names: [(String, String?)] = [
    ("BALENA_SUPERVISOR_DELTA", "SUPERVISOR_DELTA"), ("RESIN_SUPERVISOR_DELTA", "SUPERVISOR_DELTA"),
    ("SUPERVISOR_DELTA", "SUPERVISOR_DELTA"), ("BALENA_SUPERVISOR_VPN_CONTROL", "SUPERVISOR_VPN_CONTROL"),
    ("BALENA_HOST_CONFIG_gpu_mem", "HOST_CONFIG_gpu_mem"), ("HOST_CONFIG_", nil),
    ("RESIN_HOST_EXTLINUX_fdt", "HOST_EXTLINUX_fdt"), ("HOST_CONFIGFS_ssdt", "HOST_CONFIGFS_ssdt"),
    ("HOST_CONFIGFS_other", nil), ("HOST_ODMDATA_configuration", "HOST_ODMDATA_configuration"),
    ("HOST_SPLASH_image", "HOST_SPLASH_image"), ("HOST_SPLASH_IMAGE", "HOST_SPLASH_IMAGE"),
    ("host_splash_image", nil), ("image", nil), ("ssdt", nil), ("power_mode", nil),
    ("BALENA_BALENA_SUPERVISOR_DELTA", nil), ("balena_SUPERVISOR_DELTA", nil), ("FOO", nil),
  ]

  @Test("prefixes are stripped and unknown names dropped", arguments: names)
  func bareNames(_ name: String, _ bare: String?) {
    #expect(DeviceConfiguration.bareNames([name: "v"]) == (bare.map { [$0: "v"] } ?? [:]))
  }

  @Test("the newer prefix wins over the older one, and that over none")
  func precedence() {
    let all = ["BALENA_SUPERVISOR_DELTA": "b", "RESIN_SUPERVISOR_DELTA": "r", "SUPERVISOR_DELTA": "n"]
    #expect(DeviceConfiguration.bareNames(all)["SUPERVISOR_DELTA"] == "b")
    #expect(
      DeviceConfiguration.bareNames(all.filter { !$0.key.hasPrefix("BALENA") })["SUPERVISOR_DELTA"] == "r")
  }

  @Test("the old name of the lock override replaces the new one")
  func overrideLock() {
    let bare = DeviceConfiguration.bareNames(["RESIN_OVERRIDE_LOCK": "1", "SUPERVISOR_OVERRIDE_LOCK": "0"])
    #expect(bare["SUPERVISOR_OVERRIDE_LOCK"] == "1")
  }

  @Test("the effective target has every variable")
  func effective() {
    let target = DeviceConfiguration.effectiveTarget(["SUPERVISOR_DELTA": "1"], isUnmanaged: false)
    #expect(target.count == 18)
    #expect(target["SUPERVISOR_DELTA"] == "1")
    #expect(target["SUPERVISOR_POLL_INTERVAL"] == "900000")
    #expect(target["SUPERVISOR_LOCAL_MODE"] == "false")
    #expect(target["HOST_FIREWALL_MODE"] == "off")
    #expect(target["SUPERVISOR_VPN_CONTROL"] == "true")
  }

  @Test("an unmanaged device is in local mode unless told otherwise")
  func unmanaged() {
    #expect(DeviceConfiguration.effectiveTarget([:], isUnmanaged: true)["SUPERVISOR_LOCAL_MODE"] == "true")
    let told = DeviceConfiguration.effectiveTarget(["SUPERVISOR_LOCAL_MODE": "0"], isUnmanaged: true)
    #expect(told["SUPERVISOR_LOCAL_MODE"] == "0")
  }

  nonisolated static let comparisons: [(String, String, String, Bool)] = [
    ("SUPERVISOR_DELTA", "true", "ON", true), ("SUPERVISOR_DELTA", "false", "yes", true),
    ("SUPERVISOR_DELTA", "", "0", true), ("SUPERVISOR_DELTA", "1", "0", false),
    ("SUPERVISOR_POLL_INTERVAL", "900000", "900000.0", true), ("SUPERVISOR_POLL_INTERVAL", "5", "5.", true),
    ("SUPERVISOR_POLL_INTERVAL", "5", "5.5", false), ("SUPERVISOR_POLL_INTERVAL", "-5", "-5.00", true),
    ("SUPERVISOR_POLL_INTERVAL", "5", "+5", false), ("SUPERVISOR_POLL_INTERVAL", "16", "0x10", false),
    ("SUPERVISOR_POLL_INTERVAL", "1000", "1e3", false), ("SUPERVISOR_POLL_INTERVAL", "", "abc", true),
    ("HOST_FIREWALL_MODE", "off", "off", true), ("HOST_FIREWALL_MODE", "", "off", false),
    ("HOST_FIREWALL_MODE", "off", "OFF", false),
  ]

  @Test("values are compared by their kind", arguments: comparisons)
  func comparison(_ name: String, _ a: String, _ b: String, _ isEqual: Bool) throws {
    let variable = try #require(DeviceVariable.table.first { $0.name == name })
    #expect(variable.isEqual(a, b) == isEqual)
    #expect(variable.isEqual(b, a) == isEqual)
  }

  @Test("only what differs changes, with the text as given")
  func change() {
    let current = ["SUPERVISOR_DELTA": "false", "SUPERVISOR_PERSISTENT_LOGGING": "false"].merging(
      DeviceConfiguration.effectiveTarget([:], isUnmanaged: false)
    ) { first, _ in first }
    let target = DeviceConfiguration.effectiveTarget(
      [
        "SUPERVISOR_DELTA": "On", "SUPERVISOR_PERSISTENT_LOGGING": "1",
        "SUPERVISOR_POLL_INTERVAL": "900000.0",
      ],
      isUnmanaged: false)
    let change = DeviceConfiguration.change(from: current, to: target)
    #expect(change.settings == [.delta: "On", .persistentLogging: "1"])
    #expect(change.variables == ["SUPERVISOR_DELTA": "On", "SUPERVISOR_PERSISTENT_LOGGING": "1"])
    #expect(change.rebooting == [.persistentLogging: "1"])
    #expect(change.warnings.isEmpty)
  }

  @Test("an invalid value falls back to the default with a warning, and is quiet once there")
  func invalid() {
    let target = DeviceConfiguration.effectiveTarget(
      ["SUPERVISOR_POLL_INTERVAL": "12abc"], isUnmanaged: false)
    var current = DeviceConfiguration.effectiveTarget([:], isUnmanaged: false)
    current["SUPERVISOR_POLL_INTERVAL"] = "5"
    let change = DeviceConfiguration.change(from: current, to: target)
    #expect(change.settings == [.appUpdatePollInterval: "900000"])
    #expect(
      change.warnings == [
        "Warning: Ignoring invalid device configuration value for appUpdatePollInterval, value: '12abc'. Falling back to default (900000)"
      ])
    current["SUPERVISOR_POLL_INTERVAL"] = "900000"
    #expect(DeviceConfiguration.change(from: current, to: target) == DeviceConfiguration.Change())
  }

  @Test("applying any target converges: a second comparison finds nothing", arguments: 0..<100)
  func converges(_ seed: UInt64) async throws {
    LoopDriver.start()
    var generator = SeededGenerator(seed: seed)
    let scratch = Scratch()
    write("{}", to: scratch.file("config.json"))
    let file = try await ConfigFile(
      path: scratch.file("config.json"), bootDirectory: "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    let settings = Settings(file: file, store: try Store.inMemory(), logger: quiet)
    let texts = ["", "1", "true", "off", "yes", "5", "5.0", "12abc", "-3", "1e3", "0x10", "on", "auto"]
    for _ in 0..<3 {
      var stored: [String: String] = [:]
      for variable in DeviceVariable.table where Bool.random(using: &generator) {
        stored[variable.name] = texts.randomElement(using: &generator)
      }
      let target = DeviceConfiguration.effectiveTarget(stored, isUnmanaged: false)
      try await settings.apply(DeviceConfiguration.change(from: settings.currentVariables, to: target))
      #expect(DeviceConfiguration.change(from: settings.currentVariables, to: target).settings == [:])
    }
  }

  @Test("an unset firewall mode reads as empty, so that it is written once")
  func unsetFirewall() async throws {
    LoopDriver.start()
    let scratch = Scratch()
    write("{}", to: scratch.file("config.json"))
    let file = try await ConfigFile(
      path: scratch.file("config.json"), bootDirectory: "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    let settings = Settings(file: file, store: try Store.inMemory(), logger: quiet)
    let target = DeviceConfiguration.effectiveTarget([:], isUnmanaged: false)
    let change = DeviceConfiguration.change(from: settings.currentVariables, to: target)
    #expect(settings.currentVariables["HOST_FIREWALL_MODE"] == "")
    #expect(change.settings == [.firewallMode: "off"])
  }
}
