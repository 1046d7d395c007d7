import Database
import Glibc
import JSON
import SystemBus
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("Full and read-only boot partitions", .enabled(if: geteuid() == 0))
struct FullDiskTests {
  let scratch = Scratch()

  init() { LoopDriver.start() }

  @Test(
    "a write on a full disk is an error, keeps the old content and leaves nothing", arguments: [true, false])
  func full(_ isOnBootPartition: Bool) async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write(#"{"uuid":"u"}"#, to: path)
    let file = try await ConfigFile(
      path: path, bootDirectory: isOnBootPartition ? disk.path : "/nowhere", copyPath: scratch.file("copy"),
      logger: quiet)
    disk.fill()
    let error = try await #require(throws: ConfigFileError.self) {
      try await file.update(["hostname": .set(.string(String(repeating: "x", count: 9000)))])
    }
    #expect(error.message.hasPrefix("\(path) cannot be written: "))
    #expect(error.message.hasSuffix("No space left on device"))
    #expect(text(of: path) == #"{"uuid":"u"}"#)
    #expect(file.members["hostname"] == nil)
    #expect(Scratch.names(in: disk.path) == ["config.json", "filler"])
    unlink("\(disk.path)/filler")
    try await file.update(["hostname": .set("y")])
    #expect(text(of: path) == #"{"uuid":"u","hostname":"y"}"#)
  }

  @Test("a boot configuration that cannot be written is not given up")
  func bootConfiguration() async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.txt"
    write(#"{"slug":"raspberrypi4-64","arch":"aarch64"}"#, to: "\(disk.path)/device-type.json")
    write("gpu_mem=16\n", to: path)
    write("{}", to: scratch.file("config.json"))
    let paths = HostPaths(
      .init(
        hostRoot: scratch.file("host"), boot: disk.path, config: scratch.file("config.json"),
        database: scratch.file("database.sqlite")))
    let facts = HostFacts(paths: paths, logger: quiet)
    let settings = try await settings(paths)
    var reports: [String] = []
    let boot = BootConfiguration(paths: paths, facts: facts, settings: settings, logger: quiet) {
      reports.append($1)
    }
    disk.fill()
    let target = ["HOST_CONFIG_gpu_mem": String(repeating: "6", count: 9000)]
    for _ in 0...BootConfiguration.triesPerChange {
      let change = try #require(await boot.changes(for: target).first)
      await #expect(throws: BootError.self) { try await boot.apply(change) }
    }
    #expect(text(of: path) == "gpu_mem=16\n")
    unlink("\(disk.path)/filler")
    try await boot.apply(try #require(await boot.changes(for: target).first))
    #expect(await boot.changes(for: target).isEmpty)
    #expect(!reports.contains { $0.contains("given up") })
    // What was written and does not stay is a try.
    for _ in 0..<BootConfiguration.triesPerChange {
      write("gpu_mem=16\n", to: path)
      guard let change = await boot.changes(for: target).first else { break }
      try await boot.apply(change)
    }
    write("gpu_mem=16\n", to: path)
    #expect(await boot.changes(for: target).isEmpty)
    #expect(reports.contains { $0.contains("given up after 3 tries") })
  }

  @Test(
    "a change that cannot be written reboots nothing, whatever an earlier boot has left",
    arguments: ["SUPERVISOR_PERSISTENT_LOGGING", "HOST_CONFIG_gpu_mem"])
  func reboot(_ variable: String) async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    write(#"{"slug":"raspberrypi4-64","arch":"aarch64"}"#, to: "\(disk.path)/device-type.json")
    write("gpu_mem=16\n", to: "\(disk.path)/config.txt")
    write("{}", to: "\(disk.path)/config.json")
    let paths = HostPaths(
      .init(hostRoot: scratch.file("host"), boot: disk.path, database: scratch.file("database.sqlite")))
    let facts = HostFacts(paths: paths, logger: quiet)
    let settings = try await settings(paths)
    let store = try Store.inMemory()
    try store.targets.replace([], source: "x", deviceName: "n", deviceConfig: [variable: "1"])
    let bus = SystemBus(address: "unix:path=\(scratch.file("no-bus"))", logger: quiet)
    defer { bus.close() }
    let marker = RebootMarker(path: scratch.file("marker"), facts: facts)
    var reports: [DeviceEvent] = []
    let configurator = DeviceConfigurator(
      settings: settings, store: store,
      boot: BootConfiguration(paths: paths, facts: facts, settings: settings, logger: quiet) { event, _ in
        reports.append(event)
      }, systemd: SystemdManager(bus: bus, logger: quiet), rebootMarker: marker,
      report: { event, _ in reports.append(event) }, scheduleReboot: { _ in try? marker.set() }, wake: {})
    write("another boot", to: scratch.file("marker"))
    try #require(disk.makeReadOnly())
    await configurator.apply()
    #expect(reports.contains(variable.hasPrefix("HOST") ? .bootConfigError : .configError))
    #expect(!marker.isRequired)
  }

  @Test("tries are on the disk before the change is, and the loop goes on meanwhile")
  func tries() async throws {
    let boot = scratch.file("boot")
    mkdir(boot, 0o755)
    write(#"{"slug":"raspberrypi4-64","arch":"aarch64"}"#, to: "\(boot)/device-type.json")
    write("gpu_mem=16\n", to: "\(boot)/config.txt")
    write("{}", to: "\(boot)/config.json")
    let paths = HostPaths(
      .init(hostRoot: scratch.file("host"), boot: boot, database: scratch.file("database.sqlite")))
    let configuration = BootConfiguration(
      paths: paths, facts: HostFacts(paths: paths, logger: quiet), settings: try await settings(paths),
      logger: quiet
    ) { _, _ in }
    let target = ["HOST_CONFIG_gpu_mem": "64"]
    let tries = scratch.file("boot-config-tries.json")
    let change = try #require(await configuration.changes(for: target).first)
    let task = Task.immediate { try await configuration.apply(change) }
    // Not before the loop has turned.
    #expect(access(tries, F_OK) != 0)
    #expect(text(of: "\(boot)/config.txt") == "gpu_mem=16\n")
    try await task.value
    #expect(text(of: tries).contains(#""count":1"#))
    #expect(text(of: "\(boot)/config.txt") == "gpu_mem=64\n")
    #expect(await configuration.changes(for: target).isEmpty)
    #expect(text(of: tries) == "{}")
  }

  @Test(
    "a boot file that does not fit on the disk stays as it was, whatever the board",
    arguments: [
      ("jetson-tx1", "extlinux/extlinux.conf", "DEFAULT a\nLABEL a\n  APPEND quiet isolcpus=1\n"),
      ("jetson-nano", "extra_uEnv.txt", "# mine\nextra_os_cmdline=isolcpus=1\nfoo=bar\n"),
    ])
  func boards(_ slug: String, _ name: String, _ content: String) async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/\(name)"
    try DurableFile.makeDirectories(for: path)
    write(#"{"slug":"\#(slug)","arch":"aarch64"}"#, to: "\(disk.path)/device-type.json")
    write(content, to: path)
    write("{}", to: scratch.file("config.json"))
    try DurableFile.makeDirectories(for: scratch.file("host/etc/os-release"))
    write("META_BALENA_VERSION=2.45.0\n", to: scratch.file("host/etc/os-release"))
    let paths = HostPaths(
      .init(
        hostRoot: scratch.file("host"), boot: disk.path, config: scratch.file("config.json"),
        database: scratch.file("database.sqlite")))
    let boot = BootConfiguration(
      paths: paths, facts: HostFacts(paths: paths, logger: quiet), settings: try await settings(paths),
      logger: quiet
    ) { _, _ in }
    disk.fill()
    let target = ["HOST_EXTLINUX_isolcpus": String(repeating: "6", count: 9000)]
    let change = try #require(await boot.changes(for: target).first)
    await #expect(throws: BootError.self) { try await boot.apply(change) }
    #expect(text(of: path) == content)
    #expect(Scratch.names(in: DurableFile.directory(of: path)).filter { $0.hasPrefix(".") }.isEmpty)
    unlink("\(disk.path)/filler")
    try await boot.apply(try #require(await boot.changes(for: target).first))
    #expect(await boot.changes(for: target).isEmpty)
  }

  @Test("proxy and exceptions that do not fit on the disk are refused, and the files stay as they were")
  func proxy() async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    write("{}", to: scratch.file("config.json"))
    let paths = HostPaths(
      .init(
        hostRoot: scratch.file("host"), boot: disk.path, config: scratch.file("config.json"),
        database: scratch.file("database.sqlite")))
    let files = HostConfigFiles(paths: paths, settings: try await settings(paths), logger: quiet)
    func apply(_ proxy: JSON) async throws {
      let request = try HostConfigRequest(parsing: ["network": ["proxy": proxy]])
      try await files.apply(try files.change(for: request))
    }
    try await apply(["type": "socks5", "ip": "a", "port": 1, "noProxy": ["b"]])
    let before = [text(of: paths.redsocks), text(of: paths.noProxy)]
    disk.fill()
    let long = JSON.string(String(repeating: "x", count: 9000))
    for proxy: JSON in [["ip": long], ["noProxy": [long]]] {
      let error = await #expect(throws: HostConfigError.self) { try await apply(proxy) }
      #expect(error?.message.hasSuffix("No space left on device") == true)
    }
    #expect([text(of: paths.redsocks), text(of: paths.noProxy)] == before)
    #expect(
      Scratch.names(in: DurableFile.directory(of: paths.redsocks)) == ["no_proxy", "redsocks.conf"])
  }

  private func settings(_ paths: HostPaths) async throws -> Settings {
    let file = try await ConfigFile(
      path: paths.config, bootDirectory: "/nowhere", copyPath: scratch.file("copy"), logger: quiet)
    return Settings(file: file, store: try Store.inMemory(), logger: quiet)
  }

  @Test("an interrupted write is read where it cannot be finished")
  func readOnly() async throws {
    let disk = SmallFileSystem(in: scratch, kibibytes: 64)
    try #require(disk.isMounted)
    let path = "\(disk.path)/config.json"
    write("{}", to: path)
    let content = #"{"uuid":"new"}"#
    write(content, to: "\(disk.path)/.config.json.0badcafe.\(MD5.hexadecimal(Array(content.utf8))).md5sum")
    try #require(disk.makeReadOnly())
    let file = try await ConfigFile(
      path: path, bootDirectory: disk.path, copyPath: scratch.file("copy"), logger: quiet)
    #expect(file.members["uuid"] == "new")
    #expect(text(of: path) == "{}")
  }
}
