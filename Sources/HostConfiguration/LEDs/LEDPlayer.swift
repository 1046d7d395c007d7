public import EventLoop
import Glibc
public import Logging

/// Shows patterns on the device's light (host 7, http-api 11).
///
/// Two sources share one light: *identify*, which somebody asked for and which has priority for
/// fifteen seconds after the last request, and *offline*, which lasts as long as the device has no
/// connectivity. With the first of them the light is taken from its trigger, after the last one the
/// trigger and the brightness are put back. What they were is also kept in a file, so that a killed
/// agent puts them back when it starts again.
///
/// A device without a light is no fault: the sources are switched as ever, and when a light is
/// plugged in it joins.
public final class LEDPlayer {
  /// Of a request to identify the device.
  public static let identifyTime = Duration.seconds(15)
  private static let on = Duration.milliseconds(200)
  private static let off = Duration.milliseconds(200)
  private static let pause = Duration.milliseconds(1000)
  private static let offlineBlinks = 4

  private let configured: String?
  private let statePath: String
  private let logger: Logger
  private let loop: EventLoop
  private let lights: () -> [(name: String, directory: String)]

  private var led: LED?
  private var rest: LED.Rest?
  private var fullText = "1"
  private var identifyTimer: LoopTimer?
  private var isIdentifying = false
  private var isOffline = false
  /// Position within the pattern: even is on, odd is off.
  private var phase = 0
  private var timer: LoopTimer?
  private lazy var monitor = LEDMonitor { [unowned self] in lightsChanged() }

  /// - Parameters:
  ///   - configured: `LED_FILE`; `/dev/null` for no light at all.
  ///   - statePath: file that remembers what the light did before.
  ///   - lights: names and directories of the kernel's lights; for tests.
  public init(
    configured: String?, statePath: String, logger: Logger, loop: EventLoop = .shared,
    lights: (() -> [(name: String, directory: String)])? = nil
  ) {
    self.configured = configured
    self.statePath = statePath
    self.logger = logger
    self.loop = loop
    self.lights = lights ?? LEDMonitor.enumerate
    recover()
  }

  // MARK: Sources

  /// Makes the light blink for 15 s from now on; a pattern under way goes on without a jump.
  public func identify() {
    if let identifyTimer {
      identifyTimer.restart(after: Self.identifyTime)
    } else {
      identifyTimer = loop.schedule(after: Self.identifyTime) { [weak self] in self?.endIdentify() }
    }
    guard !isIdentifying else { return }
    isIdentifying = true
    begin()
  }

  private func endIdentify() {
    isIdentifying = false
    begin()
  }

  /// Whether the device has no connectivity.
  public func setOffline(_ isOffline: Bool) {
    guard isOffline != self.isOffline else { return }
    self.isOffline = isOffline
    if !isIdentifying { begin() }
  }

  /// Gives the light back; for the end of the process.
  public func stop() {
    identifyTimer?.cancel()
    isIdentifying = false
    isOffline = false
    begin()
  }

  public var isPlaying: Bool { isIdentifying || isOffline }

  // MARK: Pattern

  /// Starts the pattern of the source that counts now, or gives the light back.
  private func begin() {
    timer?.cancel()
    phase = 0
    guard isPlaying else {
      monitor.stop()
      release()
      return
    }
    monitor.start()
    if led == nil { take() }
    step()
  }

  private func step() {
    if let led, !led.set(phase % 2 == 0 ? fullText : "0") {
      logger.debug("The LED \(led.name) cannot be written")
      take()
    }
    var delay = phase % 2 == 0 ? Self.on : Self.off
    phase += 1
    if isIdentifying {
      phase %= 2
    } else if phase == 2 * Self.offlineBlinks {
      phase = 0
      delay += Self.pause
    }
    // Without a light there is nothing to time; one that is plugged in starts the pattern.
    guard led != nil else { return }
    if let timer { return timer.restart(after: delay) }
    timer = loop.schedule(after: delay) { [weak self] in self?.step() }
  }

  private func lightsChanged() {
    guard isPlaying else { return }
    if let led, led.isPresent { return }
    take()
    if led != nil { begin() }
  }

  // MARK: The light

  private func choose() -> LED? {
    if configured == "/dev/null" { return nil }
    if let configured, access(configured, F_OK) == 0 { return LED(brightness: configured) }
    let found = lights()
    func light(_ name: String) -> LED? {
      found.first { $0.name == name }.map { LED(directory: $0.directory) }
    }
    let name = LEDChoice.preferred(
      of: found.map(\.name), isUsable: { light($0)?.isPresent == true },
      canShine: { light($0)?.canShine == true })
    return name.flatMap(light)
  }

  /// A light that is ours already is one that only a write has failed of: what it does now is our own doing.
  private func take() {
    let chosen = choose()
    if chosen != led { forget() }
    guard let chosen else { return }
    fullText = chosen.fullText
    if led == nil {
      let rest = chosen.rest
      self.rest = rest
      remember(chosen, rest)
    }
    led = chosen
    chosen.takeOver()
  }

  private func release() {
    if let led, let rest { led.restore(rest) }
    forget()
  }

  private func forget() {
    guard led != nil else { return }
    led = nil
    rest = nil
    unlink(statePath)
  }

  // MARK: Memory over a crash

  private func remember(_ led: LED, _ rest: LED.Rest) {
    let text = "\(led.brightness)\n\(rest.brightness ?? "")\n\(rest.trigger ?? "")\n"
    do throws(FileError) {
      try DurableFile.makeDirectories(for: statePath)
      try DurableFile.write(Array(text.utf8), to: statePath)
    } catch {
      logger.debug("What the LED does is not kept: \(error)")
    }
  }

  private func recover() {
    guard let content = try? DurableFile.read(statePath) else { return }
    let lines = String(decoding: content, as: UTF8.self)
      .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    unlink(statePath)
    guard lines.count >= 3, lines[0].hasPrefix("/") else { return }
    let led = LED(brightness: lines[0])
    // Only a light that we would choose again: the file is in a directory that others can write to.
    guard led == choose() else { return }
    led.restore(
      LED.Rest(trigger: lines[2].isEmpty ? nil : lines[2], brightness: lines[1].isEmpty ? nil : lines[1]))
  }
}
