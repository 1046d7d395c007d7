import EventLoop
import Glibc
import HostConfiguration
import TestSupport
import Testing

/// Directories that look like the kernel's class `leds`.
private final class Lights {
  let scratch = Scratch()

  func add(_ name: String, trigger: String? = "none [heartbeat] timer", maximum: String = "255") {
    mkdir(scratch.file(name), 0o755)
    write("7\n", to: brightness(name))
    write("\(maximum)\n", to: scratch.file("\(name)/max_brightness"))
    if let trigger { write("\(trigger)\n", to: scratch.file("\(name)/trigger")) }
  }

  func brightness(_ name: String) -> String { scratch.file("\(name)/brightness") }
  func trigger(_ name: String) -> String { text(of: scratch.file("\(name)/trigger")) }

  func player(configured: String? = nil, names: [String]) -> LEDPlayer {
    LoopDriver.start()
    return LEDPlayer(configured: configured, statePath: scratch.file("state"), logger: quiet) {
      [scratch] in names.map { ($0, scratch.file($0)) }
    }
  }
}

@Suite(.serialized) struct LEDTests {
  @Test(
    arguments: [
      (["zz", "led0", "ACT"], "led0"), (["PWR", "ACT"], "ACT"), (["x", "green:status"], "green:status"),
      (["red:heartbeat", "blue:activity"], "blue:activity"), (["only"], "only"), (["a", "b"], nil), ([], nil),
    ] as [([String], String?)])
  func theLightIsChosenByItsName(names: [String], chosen: String?) {
    #expect(LEDChoice.preferred(of: names) == chosen)
  }

  @Test func aLightThatCannotShineIsNotTheOnlyOne() {
    let lights = Lights()
    lights.add("dark", maximum: "0")
    lights.add("bright", maximum: "1")
    let player = lights.player(names: ["dark", "bright"])
    player.identify()
    #expect(lights.trigger("bright") == "none" && lights.trigger("dark").hasPrefix("none [heartbeat]"))
    player.stop()
    #expect(LEDChoice.preferred(of: ["dark"], canShine: { _ in false }) == nil)
    #expect(LEDChoice.preferred(of: ["led0"], canShine: { _ in false }) == "led0")
  }

  @Test func aBlinkTakesTheLightFromItsTriggerAndGivesItBack() async {
    let lights = Lights()
    lights.add("led0")
    let player = lights.player(names: ["led0"])
    player.identify()
    #expect(lights.trigger("led0") == "none")
    #expect(text(of: lights.brightness("led0")) == "255")
    #expect(await eventually { text(of: lights.brightness("led0")) == "0" })
    #expect(await eventually { text(of: lights.brightness("led0")) == "255" })
    player.stop()
    #expect(lights.trigger("led0") == "heartbeat")
    #expect(text(of: lights.brightness("led0")) == "7")
    #expect(!lights.scratch.names.contains("state"))
  }

  @Test func aSecondBlinkKeepsWhatTheLightDidBeforeTheFirst() {
    let lights = Lights()
    lights.add("led0")
    let player = lights.player(names: ["led0"])
    player.identify()
    player.identify()
    player.stop()
    #expect(lights.trigger("led0") == "heartbeat")
    #expect(text(of: lights.brightness("led0")) == "7")
  }

  @Test func afterAKillTheNextStartGivesTheLightBack() {
    let lights = Lights()
    lights.add("led0", trigger: "none [heartbeat] timer")
    lights.player(names: ["led0"]).identify()
    #expect(lights.trigger("led0") == "none")
    let next = lights.player(names: ["led0"])
    #expect(!next.isPlaying)
    #expect(lights.trigger("led0") == "heartbeat")
    #expect(text(of: lights.brightness("led0")) == "7")
  }

  @Test func aNoteAboutAnotherFileThanOurLightIsNotFollowed() {
    let lights = Lights()
    lights.add("led0")
    let victim = lights.scratch.file("victim")
    write("safe", to: victim)
    write("\(victim)\n1\n\n", to: lights.scratch.file("state"))
    _ = lights.player(names: ["led0"])
    #expect(text(of: victim) == "safe")
  }

  @Test func identifyingDoesNotEndTheOfflinePattern() {
    let lights = Lights()
    lights.add("led0")
    let player = lights.player(names: ["led0"])
    player.setOffline(true)
    player.identify()
    player.setOffline(false)
    #expect(player.isPlaying)
    player.setOffline(true)
    player.stop()
    #expect(!player.isPlaying)
  }

  @Test func aDeviceWithoutALightIsNoFault() {
    let lights = Lights()
    let player = lights.player(names: [])
    player.identify()
    #expect(player.isPlaying)
    player.stop()
    #expect(lights.scratch.names.isEmpty)
  }

  @Test func aConfiguredFileIsUsedAndDevNullMeansNone() {
    let lights = Lights()
    lights.add("led0")
    lights.add("mine", trigger: nil, maximum: "1")
    let player = lights.player(configured: lights.brightness("mine"), names: ["led0"])
    player.identify()
    #expect(text(of: lights.brightness("mine")) == "1")
    #expect(lights.trigger("led0").contains("[heartbeat]"))
    player.stop()
    let off = lights.player(configured: "/dev/null", names: ["led0"])
    off.identify()
    #expect(lights.trigger("led0").contains("[heartbeat]"))
    off.stop()
  }

  @Test func aLightThatGoesAwayWhileItBlinksIsLeftForAnother() async {
    let lights = Lights()
    lights.add("led0")
    lights.add("green:status")
    let player = lights.player(names: ["led0", "green:status"])
    player.identify()
    #expect(lights.trigger("led0") == "none")
    #expect(lights.trigger("green:status").contains("[heartbeat]"))
    for name in ["brightness", "trigger", "max_brightness"] { unlink(lights.scratch.file("led0/\(name)")) }
    #expect(await eventually { text(of: lights.brightness("green:status")) == "255" })
    #expect(lights.trigger("green:status") == "none")
    player.stop()
    #expect(lights.trigger("green:status") == "heartbeat")
    #expect(text(of: lights.brightness("green:status")) == "7")
    #expect(Scratch.names(in: lights.scratch.file("led0")).isEmpty)
  }

  @Test func theOnlyLightMayGoAwayWhileItBlinks() async {
    let lights = Lights()
    lights.add("led0")
    let player = lights.player(names: ["led0"])
    player.identify()
    for name in ["brightness", "trigger", "max_brightness"] { unlink(lights.scratch.file("led0/\(name)")) }
    // It is forgotten, and what it did with it.
    #expect(await eventually { !lights.scratch.names.contains("state") })
    #expect(player.isPlaying)
    player.stop()
    #expect(Scratch.names(in: lights.scratch.file("led0")).isEmpty)
  }

  @Test func aWriteThatFailsOnceDoesNotForgetWhatTheLightDidBefore() async throws {
    let lights = Lights()
    lights.add("led0")
    let player = lights.player(names: ["led0"])
    player.identify()
    #expect(lights.trigger("led0") == "none")
    // A directory takes no text, and is there.
    unlink(lights.brightness("led0"))
    mkdir(lights.brightness("led0"), 0o755)
    try await EventLoop.shared.sleep(for: .milliseconds(500))
    rmdir(lights.brightness("led0"))
    write("0", to: lights.brightness("led0"))
    #expect(await eventually { text(of: lights.brightness("led0")) == "255" })
    #expect(lights.scratch.names.contains("state"))
    player.stop()
    #expect(lights.trigger("led0") == "heartbeat")
    #expect(text(of: lights.brightness("led0")) == "7")
  }

  @Test func aLightWithoutTriggersBlinksAndGetsItsBrightnessBack() async {
    let lights = Lights()
    lights.add("led0", trigger: nil)
    let player = lights.player(names: ["led0"])
    player.identify()
    #expect(text(of: lights.brightness("led0")) == "255")
    #expect(await eventually { text(of: lights.brightness("led0")) == "0" })
    player.stop()
    #expect(text(of: lights.brightness("led0")) == "7")
    #expect(!lights.scratch.names.contains("led0/trigger"))
  }

  @Test func aLightWhoseBrightnessCannotBeWrittenIsNotChosen() {
    let lights = Lights()
    for name in ["led0", "ACT", "x:status"] { lights.add(name) }
    // Also for root: a directory takes no text, and a file that is not there neither.
    unlink(lights.brightness("led0"))
    unlink(lights.brightness("ACT"))
    let player = lights.player(names: ["led0", "ACT", "x:status"])
    player.identify()
    #expect(lights.trigger("x:status") == "none")
    for name in ["led0", "ACT"] { #expect(lights.trigger(name).contains("[heartbeat]")) }
    player.stop()
    #expect(lights.trigger("x:status") == "heartbeat")
  }
}
