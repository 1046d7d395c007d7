import JSON
import Logging

/// Power mode and fan profile of a Jetson Orin, which the host reads from config.json (host 4.8).
public final class PowerFanBackEnd: BootBackEnd {
  public let name = "power and fan"
  private static let prefix = "HOST_CONFIG_"
  /// Option, member of `os`, and its member.
  private static let places = [
    (option: "power_mode", section: "power", member: "mode"),
    (option: "fan_profile", section: "fan", member: "profile"),
  ]

  private let settings: Settings
  private let logger: Logger

  init(settings: Settings, logger: Logger) {
    self.settings = settings
    self.logger = logger
  }

  public func option(for variable: String) -> String? {
    Self.places.first { Self.prefix + $0.option == variable }?.option
  }

  public func variable(for option: String) -> String { Self.prefix + option }

  public func needsReboot(from current: BootOptions, to target: BootOptions) -> Bool {
    current["power_mode"] != target["power_mode"]
  }

  private func section() throws(BootError) -> JSONObject? {
    do throws(SettingError) { return try settings.value(.os)?.objectValue } catch {
      throw BootError("config.json: os cannot be used: \(error.description)")
    }
  }

  public func read() throws(BootError) -> BootOptions {
    guard let os = try section() else { return [:] }
    var options: BootOptions = [:]
    for place in Self.places {
      guard let value = os[place.section] else { continue }
      guard let members = value.objectValue else { return [:] }
      guard let member = members[place.member] else { continue }
      guard let text = member.stringValue else { return [:] }
      options[place.option] = .text(text)
    }
    return options
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    guard try read() != options else { return }
    var os = try section() ?? [:]
    for place in Self.places {
      os[place.section] = options[place.option]?.list.first.map { [place.member: .string($0)] }
    }
    do throws(SettingError) { try await settings.set([.os: .object(os)]) } catch {
      throw BootError(error.description)
    }
  }
}
