import Database
import Glibc
@testable import HostConfiguration
import JSON
import TestSupport
import Testing

/// A device's boot partition and the places of the host that back ends write to.
private final class Board {
  let scratch = Scratch()
  lazy var paths = HostPaths(.init(hostRoot: scratch.file("host"), boot: scratch.file("boot")))

  init() { LoopDriver.start() }

  func put(_ path: String, _ content: some Sequence<UInt8>) {
    var directory = scratch.path
    for part in path.split(separator: "/").dropLast() {
      directory += "/\(part)"
      mkdir(directory, 0o755)
    }
    write(content, to: scratch.file(path))
  }

  func text(_ path: String) -> String { String(decoding: contents(of: scratch.file(path)), as: UTF8.self) }
}

private let png: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

struct SplashTests {
  private func backEnd(_ board: Board) -> SplashBackEnd {
    SplashBackEnd(directory: board.paths.splash, logger: quiet)
  }

  @Test func theOriginalIsKeptAndComesBackWhenTheTargetHasNoImage() async throws {
    let board = Board()
    board.put("boot/splash/resin-logo.png", png + [1])
    let splash = backEnd(board)
    await splash.prepare()
    #expect(try splash.read().isEmpty)
    let wanted = splash.target(["HOST_SPLASH_IMAGE": Base64.encode(png + [2])], current: [:])
    #expect(wanted.problems.isEmpty)
    try await splash.write(wanted.options)
    #expect(contents(of: board.scratch.file("boot/splash/resin-logo.png")) == png + [2])
    #expect(try splash.read() == wanted.options)
    #expect(splash.variables(try splash.read()).keys.sorted() == ["HOST_SPLASH_image"])
    try await splash.write(splash.target([:], current: try splash.read()).options)
    #expect(contents(of: board.scratch.file("boot/splash/resin-logo.png")) == png + [1])
    #expect(contents(of: board.scratch.file("boot/splash/balena-logo-default.png")) == png + [1])
  }

  @Test(arguments: ["data:image/png;base64,", "data:image/png;charset=x;base64,", ""])
  func spellingsOfOneImageAreOne(prefix: String) throws {
    let board = Board()
    board.put("boot/splash/balena-logo.png", png)
    let splash = backEnd(board)
    let current = try splash.read()
    #expect(
      splash.target(["HOST_SPLASH_image": prefix + Base64.encode(png)], current: current).options == current)
    board.put("boot/splash/balena-logo-default.png", png + [1])
    let custom = try splash.read()
    #expect(custom == ["image": .text("data:image/png;base64,\(Base64.encode(png))")])
    #expect(
      splash.target(["HOST_SPLASH_image": prefix + Base64.encode(png)], current: custom).options == custom)
  }

  @Test func theImageOfTheSystemIsNobodysChoiceBeforeItIsKept() async throws {
    let board = Board()
    board.put("boot/splash/balena-logo.png", png + [1])
    let splash = backEnd(board)
    #expect(try splash.read().isEmpty)
    #expect(splash.target([:], current: [:]).options.isEmpty)
    try await splash.write(splash.target(["HOST_SPLASH_image": Base64.encode(png)], current: [:]).options)
    #expect(contents(of: board.scratch.file("boot/splash/balena-logo-default.png")) == png + [1])
    #expect(splash.variables(try splash.read()).keys.sorted() == ["HOST_SPLASH_image"])
  }

  @Test func aDeviceWithoutAnyImageTakesOneAndIsDone() async throws {
    let board = Board()
    board.put("boot/config.json", "{}".utf8)
    let splash = backEnd(board)
    let target = ["HOST_SPLASH_image": Base64.encode(png)]
    let wanted = splash.target(target, current: try splash.read()).options
    #expect(!wanted.isEmpty)
    try await splash.write(wanted)
    #expect(contents(of: board.scratch.file("boot/splash/balena-logo.png")) == png)
    let current = try splash.read()
    #expect(splash.target(target, current: current).options == current)
  }

  @Test(arguments: ["/9j/4AAQ", "no base64!", "data:image/png;base64"])
  func whatIsNoPNGIsToldAndChangesNothing(image: String) throws {
    let board = Board()
    board.put("boot/splash/balena-logo.png", png)
    let splash = backEnd(board)
    let current = try splash.read()
    let target = splash.target(["HOST_SPLASH_image": image], current: current)
    #expect(target.options == current)
    #expect(
      target.problems == ["Expected splash image to be a base64 encoded PNG image. Skipping write."])
  }
}

struct FinTests {
  private func target(_ type: String, _ variables: [String: String]) -> BootOptions {
    ConfigTextBackEnd(path: "/nowhere", deviceType: type, logger: quiet).target(variables, current: [:])
      .options
  }

  @Test func aFinAlwaysHasItsOverlayAndOnlyOnce() {
    let name = "HOST_CONFIG_dtoverlay"
    #expect(target("fincm3", [:]) == ["dtoverlay": .list(["balena-fin"])])
    #expect(target("fincm3", [name: "vc4"]) == ["dtoverlay": .list(["vc4", "balena-fin"])])
    #expect(
      target("fincm3", [name: #""balena-fin","vc4""#]) == ["dtoverlay": .list(["balena-fin", "vc4"])])
    #expect(target("raspberrypi4-64", [:]).isEmpty)
  }
}

struct ODMDataTests {
  private func board(
    _ bytes: [UInt8], report: @escaping (String) -> Void = { _ in }
  ) -> (Board, ODMDataBackEnd) {
    let board = Board()
    var content = [UInt8](repeating: 0xEE, count: 20000)
    for (offset, byte) in zip([1659, 5243, 18043], bytes) { content[offset] = byte }
    board.put("host/dev/mmcblk0boot0", content)
    board.put("host/sys/block/mmcblk0boot0/force_ro", "1".utf8)
    return (
      board,
      ODMDataBackEnd(
        device: board.paths.odmData, readOnlySwitch: board.paths.odmDataReadOnlySwitch, logger: quiet,
        report: report)
    )
  }

  @Test(arguments: [(1, 0x0), (2, 0x1), (3, 0x6), (4, 0x7), (5, 0x2), (6, 0x3)] as [(Int, UInt8)])
  func aModeIsOneByteAtThreePlaces(mode: Int, byte: UInt8) async throws {
    let (board, backEnd) = board(mode == 1 ? [1, 1, 1] : [0, 0, 0])
    let before = contents(of: board.paths.odmData)
    let target = backEnd.target(["HOST_ODMDATA_configuration": "\(mode)"], current: try backEnd.read())
    try await backEnd.write(target.options)
    #expect(try backEnd.read() == ["configuration": .text("\(mode)")])
    var expected = before
    for offset in [1659, 5243, 18043] { expected[offset] = byte }
    #expect(contents(of: board.paths.odmData) == expected)
    #expect(board.text("host/sys/block/mmcblk0boot0/force_ro") == "1")
  }

  /// The switch is a pipe with room for one byte more: it takes the `0`, and not the `1`.
  @Test func aMediumThatCannotBeLockedAgainIsReportedAndTheModeIsSetAllTheSame() async throws {
    var reported: [String] = []
    let (board, backEnd) = board([0, 0, 0]) { reported.append($0) }
    let path = board.paths.odmDataReadOnlySwitch
    unlink(path)
    #expect(mkfifo(path, 0o600) == 0)
    let pipe = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
    defer { close(pipe) }
    // F_GETPIPE_SZ (fcntl(2))
    let room = Int(fcntl(pipe, 1032, 0))
    let filling = [UInt8](repeating: 0, count: room - 1)
    #expect(Glibc.write(pipe, filling, filling.count) == filling.count)
    try await backEnd.write(["configuration": .text("3")])
    #expect(try backEnd.read() == ["configuration": .text("3")])
    #expect(
      reported == [
        "ODMDATA: \(board.paths.odmData) stays writable until the next boot: "
          + "\(path) cannot be written: Resource temporarily unavailable"
      ])
  }

  @Test func withoutAModeInTheTargetNothingChanges() throws {
    let (board, backEnd) = board([6, 6, 6])
    defer { withExtendedLifetime(board) {} }
    let current = try backEnd.read()
    #expect(backEnd.target([:], current: current).options == current)
    let target = backEnd.target(["HOST_ODMDATA_configuration": "7"], current: current)
    #expect(target.options == current)
    #expect(target.problems == ["Configuration mode of: 7 is not supported."])
  }

  @Test(arguments: [
    ([0, 1, 0], "Unable to parse ODMDATA configuration. Data at offsets do not match."),
    ([9, 9, 9], "Unable to parse ODMDATA configuration. Unsupported configuration byte set."),
  ])
  func bytesThatSayNothingAreAnError(bytes: [UInt8], message: String) {
    let (board, backEnd) = board(bytes)
    defer { withExtendedLifetime(board) {} }
    #expect(throws: BootError(message)) { try backEnd.read() }
  }
}

struct ConfigFSTests {
  @Test func oneKeyChangesAndTheOthersStayInTheirOrder() async throws {
    let board = Board()
    board.put("boot/configfs.json", #"{"z":[1.50],"ssdt":["spidev1.0"],"a":null}"#.utf8)
    let backEnd = ConfigFSBackEnd(paths: board.paths, logger: quiet) { _, _ in }
    let current = try backEnd.read()
    #expect(current == ["ssdt": .list(["spidev1.0"])])
    let same = backEnd.target(["HOST_CONFIGFS_ssdt": "spidev1.0"], current: current)
    #expect(same.options == current)
    let next = backEnd.target(["HOST_CONFIGFS_ssdt": "\"spidev1.0\", \"i2c\""], current: current)
    try await backEnd.write(next.options)
    #expect(board.text("boot/configfs.json") == #"{"z":[1.50],"ssdt":["spidev1.0","i2c"],"a":null}"#)
    #expect(try backEnd.read() == next.options)
  }

  /// The kernel makes a directory's attributes with the directory; in one that stands in for it they are made before.
  @Test func tablesAreLoadedOnceAtTheStartAndWhatIsMissingIsTold() async throws {
    let board = Board()
    board.put("boot/configfs.json", #"{"ssdt":["new","loaded","missing","../x"]}"#.utf8)
    for name in ["new", "loaded"] { board.put("host/boot/acpi-tables/\(name).aml", "table \(name)".utf8) }
    board.put("host/sys/kernel/config/acpi/table/loaded/aml", "as it was".utf8)
    board.put("modprobe", "#!/bin/sh\necho \"$@\" >>\(board.scratch.file("calls"))\n".utf8)
    chmod(board.scratch.file("modprobe"), 0o755)
    var reports: [String] = []
    let backEnd = ConfigFSBackEnd(
      paths: board.paths, modprobe: board.scratch.file("modprobe"), logger: quiet,
      makeTable: { directory in
        guard mkdir(directory, 0o755) == 0 else { return -1 }
        write("", to: "\(directory)/aml")
        return 0
      }
    ) { reports.append("\($1): \($0)") }
    for _ in 0..<2 { await backEnd.prepare() }
    #expect(board.text("host/sys/kernel/config/acpi/table/new/aml") == "table new")
    #expect(board.text("host/sys/kernel/config/acpi/table/loaded/aml") == "as it was")
    #expect(reports == ["Load AML error: Missing AML for 'missing'. Unable to load."])
    #expect(board.text("calls") == "-d \(board.scratch.file("host")) acpi_configfs\n")
    #expect(board.text("boot/configfs.json") == #"{"ssdt":["new","loaded","missing","../x"]}"#)
  }

  @Test func withoutTheModuleNoTableIsLoadedAndTheNextStartTriesAgain() async throws {
    let board = Board()
    board.put("boot/configfs.json", #"{"ssdt":["new"]}"#.utf8)
    board.put("host/boot/acpi-tables/new.aml", "table".utf8)
    var made = 0
    for _ in 0..<2 {
      let backEnd = ConfigFSBackEnd(
        paths: board.paths, modprobe: "/bin/false", logger: quiet,
        makeTable: { _ in
          made += 1
          return 0
        }
      ) { _, _ in }
      await backEnd.prepare()
    }
    #expect(made == 0)
  }

  @Test func aTableIsAFileNameAndNothingElse() throws {
    let backEnd = ConfigFSBackEnd(paths: Board().paths, logger: quiet) { _, _ in }
    let target = backEnd.target(["HOST_CONFIGFS_ssdt": "\"../../etc/x\",\"ok\""], current: [:])
    #expect(target.options == ["ssdt": .list(["ok"])])
    #expect(target.problems.count == 1)
  }
}

struct PowerFanTests {
  private func settings(_ board: Board, _ content: String) async throws -> Settings {
    board.put("boot/config.json", content.utf8)
    return Settings(
      file: try await ConfigFile(
        path: board.paths.config, bootDirectory: "/nowhere", copyPath: board.scratch.file("copy"),
        logger: quiet), store: try Store.inMemory(), logger: quiet)
  }

  @Test func oneMemberOfTheConfigurationChangesAndTheRestStays() async throws {
    let board = Board()
    let backEnd = PowerFanBackEnd(
      settings: try await settings(board, #"{"os":{"sshKeys":["k"],"power":{"mode":"low"}},"x":1}"#),
      logger: quiet)
    let current = try backEnd.read()
    #expect(backEnd.variables(current) == ["HOST_CONFIG_power_mode": "low"])
    let fan = backEnd.target(
      ["HOST_CONFIG_power_mode": "low", "HOST_CONFIG_fan_profile": "cool"], current: current)
    #expect(!backEnd.needsReboot(from: current, to: fan.options))
    try await backEnd.write(fan.options)
    #expect(
      board.text("boot/config.json")
        == #"{"os":{"sshKeys":["k"],"power":{"mode":"low"},"fan":{"profile":"cool"}},"x":1}"#)
    #expect(backEnd.needsReboot(from: fan.options, to: [:]))
    try await backEnd.write([:])
    #expect(board.text("boot/config.json") == #"{"os":{"sshKeys":["k"]},"x":1}"#)
  }
}
