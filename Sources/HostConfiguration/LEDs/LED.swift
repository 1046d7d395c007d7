import CSystemd
import Glibc

/// A light of the kernel's `leds` class: a directory with `brightness`, and mostly `trigger` and
/// `max_brightness` (Documentation/leds/leds-class.rst of the kernel).
public nonisolated struct LED: Sendable, Hashable {
  /// File that takes the brightness.
  public let brightness: String

  /// - Parameter brightness: path of the file, such as `/sys/class/leds/led0/brightness`.
  public init(brightness: String) { self.brightness = brightness }

  public init(directory: String) { brightness = "\(directory)/brightness" }

  public var name: String { DurableFile.name(of: DurableFile.directory(of: brightness)) }
  var trigger: String { "\(DurableFile.directory(of: brightness))/trigger" }
  private var maximum: String { "\(DurableFile.directory(of: brightness))/max_brightness" }

  public var isPresent: Bool { access(brightness, W_OK) == 0 }

  /// Text that means full light; `1` where the kernel does not say.
  var fullText: String {
    guard let text = Self.text(maximum), let number = Int(text), number > 0 else { return "1" }
    return String(number)
  }

  /// Whether the kernel knows a brightness other than off.
  public var canShine: Bool { Self.text(maximum).flatMap(Int.init) != 0 }

  /// What the light does when nobody plays on it.
  struct Rest: Sendable, Hashable {
    /// The kernel's trigger, nil for a light that has none.
    var trigger: String?
    var brightness: String?
  }

  var rest: Rest {
    Rest(trigger: Self.text(trigger).flatMap(Self.selected), brightness: Self.text(brightness))
  }

  /// The name in brackets of the kernel's list: `none [heartbeat] timer`.
  static func selected(in list: String) -> String? {
    for word in list.split(separator: " ") where word.hasPrefix("[") && word.hasSuffix("]") {
      return String(word.dropFirst().dropLast())
    }
    return nil
  }

  /// Takes the light away from its trigger.
  func takeOver() { if access(trigger, W_OK) == 0 { Self.write("none", to: trigger) } }

  /// The brightness first: some triggers, such as `heartbeat`, keep it as what they blink with.
  func restore(_ rest: Rest) {
    if let brightness = rest.brightness { Self.write(brightness, to: self.brightness) }
    if let trigger = rest.trigger { Self.write(trigger, to: self.trigger) }
  }

  /// - Returns: false when the light is gone.
  @discardableResult
  func set(_ text: String) -> Bool { Self.write(text, to: brightness) }

  private static func text(_ path: String) -> String? {
    guard let content = try? DurableFile.read(path) else { return nil }
    return String(decoding: content, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(String.init)
  }

  /// Files of sysfs take a value in one write.
  @discardableResult
  private static func write(_ text: String, to path: String) -> Bool {
    let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var bytes = Array(text.utf8)
    return Glibc.write(descriptor, &bytes, bytes.count) == bytes.count
  }
}

/// Which light of the device identifies it (host 7).
public nonisolated enum LEDChoice {
  /// - Parameters:
  ///   - names: of the kernel's class `leds`.
  ///   - isUsable: whether a light can be written to.
  ///   - canShine: whether a light can be brighter than off.
  /// - Returns: `led0`, then `ACT`, then one that is named for activity or status, then the only one that can shine.
  public static func preferred(
    of names: [String], isUsable: (String) -> Bool = { _ in true }, canShine: (String) -> Bool = { _ in true }
  ) -> String? {
    let usable = names.filter(isUsable).sorted()
    for name in ["led0", "ACT"] where usable.contains(name) { return name }
    for suffix in [":activity", ":status", ":heartbeat", ":act"] {
      if let name = usable.first(where: { $0.lowercased().hasSuffix(suffix) }) { return name }
    }
    let shining = usable.filter(canShine)
    return shining.count == 1 ? shining[0] : nil
  }
}
