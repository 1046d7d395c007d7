import Glibc
import TestSupport
import Testing

@testable import HostConfiguration

@Suite("Facts of the host")
struct HostFactsTests {
  let scratch = Scratch()

  nonisolated static let values: [(String, String)] = [
    ("A=plain", "plain"), ("A=\"quoted text\"", "quoted text"), ("A='single $x \\ \"'", "single $x \\ \""),
    ("A=\"\"", ""), ("A=''", ""), ("A=", ""),
    ("A=\"a \\\"b\\\" \\$c \\`d \\\\e \\n\"", "a \"b\" $c `d \\e \\n"),
    ("  A = spaced  ", "spaced"), ("A=a\\ b", "a b"), ("A='it'\\''s'", "it's"), ("A=x=y", "x=y"),
    ("A=\"open", "open"), ("A=two words", "two words"), ("A=1\nA=2", "2"), ("A=\"cr\"\r", "cr"),
    ("#A=no\nA=yes", "yes"), ("A=\"# kept\"", "# kept"),
  ]

  @Test("values of os-release are unquoted as a shell would", arguments: values)
  func unquoting(_ line: String, _ value: String) {
    #expect(OSRelease(parsing: line + "\n")["A"] == value)
  }

  @Test("lines that are no assignment are skipped")
  func skipped() {
    #expect(OSRelease(parsing: "\n\n# c\nfoo\n=bar\n  # d=e\n").fields.isEmpty)
  }

  @Test("a real file gives version, variant and board")
  func realFile() {
    let release = OSRelease(
      parsing: """
        ID="balena-os"
        NAME="balenaOS"
        VERSION="2.98.33"
        VERSION_ID="2.98.33"
        PRETTY_NAME="balenaOS 2.98.33"
        META_BALENA_VERSION="2.98.33"
        RESIN_BOARD_REV="eb2efa1"
        """)
    #expect(release.prettyName == "balenaOS 2.98.33" && release.id == "balena-os")
    #expect(release.metaRelease == "2.98.33" && release.boardRevision == "eb2efa1")
    #expect(release.variant(isDevelopmentMode: true) == "dev")
    #expect(release.variant(isDevelopmentMode: false) == "prod")
    #expect(OSRelease(parsing: "VARIANT_ID=x").variant(isDevelopmentMode: true) == "x")
  }

  nonisolated static let kernels: [(String, version: String?, l4t: String?)] = [
    ("5.10.0-21-amd64", "5.10.0", nil), ("6.1-rc1", nil, nil), ("6.1", nil, nil), ("6.1.2", "6.1.2", nil),
    ("4.9.140-l4t-r32.2+g1234", "4.9.140", "32.2.0"), ("5.10.104-l4t-r35.3.1+gabc", "5.10.104", "35.3.1"),
    ("5.10.104-l4t-r35", "5.10.104", nil), ("6.1.2.3-x", "6.1.2", nil), ("", nil, nil), ("abc", nil, nil),
  ]

  @Test("kernel releases give versions for contracts", arguments: kernels)
  func kernels(_ release: String, _ version: String?, _ l4t: String?) {
    let kernel = Kernel(name: "Linux", release: release)
    #expect(kernel.slug == "linux" && kernel.version == version && kernel.l4tVersion == l4t)
  }

  func facts() -> HostFacts {
    let options = HostPaths.Options(hostRoot: scratch.path, boot: scratch.path)
    return HostFacts(paths: HostPaths(options), logger: quiet)
  }

  @Test("a former directory of locks is linked to, once, and only where there is no newer one")
  func formerRuntime() {
    let paths = HostPaths(HostPaths.Options(hostRoot: scratch.path))
    mkdir(scratch.file("tmp"), 0o700)
    paths.linkFormerRuntime()
    #expect(Scratch.names(in: scratch.file("tmp")).isEmpty)
    mkdir(scratch.file("tmp/resin-supervisor"), 0o700)
    for _ in 0..<2 {
      paths.linkFormerRuntime()
      write("x", to: "\(paths.runtime)/file")
      #expect(text(of: scratch.file("tmp/resin-supervisor/file")) == "x")
    }
    #expect(Scratch.names(in: scratch.file("tmp/resin-supervisor")) == ["file"])
    unlink(paths.runtime)
    mkdir(paths.runtime, 0o700)
    paths.linkFormerRuntime()
    #expect(Scratch.names(in: paths.runtime).isEmpty)
  }

  @Test("modules are those of the host")
  func modules() {
    #expect(KernelModule.arguments("a", hostRoot: "/") == ["a"])
    #expect(KernelModule.arguments("a", hostRoot: "/mnt/root") == ["-d", "/mnt/root", "a"])
  }

  @Test("the device type is unknown until its file can be read, and then kept")
  func deviceType() {
    let facts = facts()
    #expect(facts.deviceType == "unknown" && facts.architecture == "unknown")
    write("{", to: scratch.file("device-type.json"))
    #expect(facts.deviceType == "unknown")
    write(#"{"slug":"raspberrypi4-64","arch":"aarch64"}"#, to: scratch.file("device-type.json"))
    #expect(facts.deviceType == "raspberrypi4-64" && facts.architecture == "aarch64")
    unlink(scratch.file("device-type.json"))
    #expect(facts.deviceType == "raspberrypi4-64")
  }

  @Test("facts are read under the host's root")
  func underRoot() {
    let facts = facts()
    #expect(facts.osRelease == nil && facts.hostname == nil)
    #expect(!facts.hasFirmware && !facts.hasKernelModules)
    for directory in ["etc", "lib", "lib/firmware", "lib/modules"] { mkdir(scratch.file(directory), 0o700) }
    write("PRETTY_NAME='x'\n", to: scratch.file("etc/os-release"))
    write("boat\n", to: scratch.file("etc/hostname"))
    #expect(facts.osRelease?.prettyName == "x" && facts.hostname == "boat")
    #expect(facts.hasFirmware && facts.hasKernelModules)
  }

  @Test("boot id, uptime and kernel are those of this machine")
  func machine() {
    let facts = facts()
    #expect(facts.bootID?.count == 36)
    #expect(facts.uptime > .zero)
    #expect(facts.kernel.slug == "linux" && !facts.kernel.release.isEmpty)
  }
}

@Suite("Paths")
struct HostPathsTests {
  @Test("without options and variables paths are those of a device")
  func defaults() {
    let paths = HostPaths(hasDirectory: { _ in true })
    #expect(paths.hostRoot == "/mnt/root" && paths.config == "/mnt/boot/config.json")
    #expect(paths.database == "/data/database.sqlite" && paths.osRelease == "/mnt/root/etc/os-release")
    #expect(paths.rebootMarker == "/mnt/root/tmp/balena-supervisor/reboot-after-apply")
    #expect(
      paths.updateLocks(app: 1, service: "web") == "/mnt/root/tmp/balena-supervisor/services/1/web")
    #expect(paths.systemBusAddress == "unix:path=/mnt/root/run/dbus/system_bus_socket")
    #expect(paths.configCopy == "/data/config.json.last-good")
  }

  @Test("on the host itself the root is /")
  func onHost() {
    let paths = HostPaths(hasDirectory: { _ in false })
    #expect(paths.hostRoot == "/" && paths.osRelease == "/etc/os-release")
    #expect(paths.targetStateConfig == "/tmp/balena-supervisor/target-state-config")
  }

  @Test("in a container the host's mounts count where nothing is mounted in their places")
  func belowTheRoot() {
    let there = [
      "/mnt/root", "/mnt/root/mnt/boot", "/mnt/root/mnt/state", "/mnt/root/mnt/data", "/mnt/state",
      "/mnt/root/mnt/data/resin-data/balena-supervisor",
    ]
    let paths = HostPaths { there.contains($0) }
    #expect(paths.boot == "/mnt/root/mnt/boot" && paths.config == "/mnt/root/mnt/boot/config.json")
    #expect(paths.state == "/mnt/state" && paths.data == "/mnt/root/mnt/data")
    #expect(paths.database == "/mnt/root/mnt/data/resin-data/balena-supervisor/database.sqlite")
    let bound = HostPaths { $0 == "/data" || there.contains($0) }
    #expect(bound.database == "/data/database.sqlite")
  }

  @Test("an option wins over its variable, which counts only when it says something")
  func precedence() {
    let environment = [
      "BOOT_MOUNTPOINT": "/b", "STATE_MOUNTPOINT": "null", "DATA_MOUNTPOINT": "",
      "DATABASE_PATH": "undefined",
      "CONFIG_MOUNT_POINT": "/c.json", "LED_FILE": "/led",
    ]
    let paths = HostPaths(.init(config: "/option.json"), environment: environment)
    #expect(paths.boot == "/b" && paths.config == "/option.json" && paths.led == "/led")
    #expect(paths.state == "/mnt/state" && paths.data == "/mnt/data")
    #expect(paths.database == "/data/database.sqlite")
    #expect(HostPaths(.init(boot: "/x/"), environment: [:]).config == "/x/config.json")
  }
}
