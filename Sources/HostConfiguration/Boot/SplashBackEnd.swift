import Glibc
import Logging

/// The image that is shown while the device boots (host 4.7).
///
/// Images are compared by their bytes, so it does not matter how a target spells them. While no original is
/// kept, the image that is there is the original, and not one that somebody has set.
public final class SplashBackEnd: BootBackEnd {
  public let name = "splash"
  private static let prefix = "HOST_SPLASH_"
  private static let optionName = "image"
  private static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
  private static let liveNames = ["balena-logo.png", "resin-logo.png"]

  private let directory: String
  private let logger: Logger
  private var hasWarned = false
  private var hasPrepared = false

  init(directory: String, logger: Logger) {
    self.directory = directory
    self.logger = logger
  }

  private var live: String {
    let name = Self.liveNames.first { access("\(directory)/\($0)", F_OK) == 0 }
    return "\(directory)/\(name ?? Self.liveNames[0])"
  }

  private var original: String { "\(directory)/balena-logo-default.png" }

  public func option(for variable: String) -> String? {
    guard variable.hasPrefix(Self.prefix),
      variable.dropFirst(Self.prefix.count).lowercased() == Self.optionName
    else { return nil }
    return Self.optionName
  }

  public func variable(for option: String) -> String { Self.prefix + option }

  private static func text(of image: [UInt8]) -> BootValue {
    .text("data:image/png;base64,\(Base64.encode(image))")
  }

  public func read() throws(BootError) -> BootOptions {
    guard access(live, F_OK) == 0 else { return [:] }
    do throws(FileError) {
      let image = try BootFile.read(live)
      guard access(original, F_OK) == 0, try BootFile.read(original) != image else { return [:] }
      return [Self.optionName: Self.text(of: image)]
    } catch {
      if !hasWarned { logger.warning("Could not read the splash image: \(error)") }
      hasWarned = true
      return [:]
    }
  }

  public func normalised(_ target: BootOptions, current: BootOptions) -> BootTarget {
    let text = String((target[Self.optionName]?.list.first ?? "").trimmed)
    guard !text.isEmpty else { return BootTarget([:]) }
    guard let image = Self.image(of: text), image.starts(with: Self.signature) else {
      return BootTarget(
        current,
        problems: ["Expected splash image to be a base64 encoded PNG image. Skipping write."])
    }
    let unset = access(original, F_OK) == 0 ? original : live
    if access(unset, F_OK) == 0, (try? BootFile.read(unset)) == image { return BootTarget([:]) }
    return BootTarget([Self.optionName: Self.text(of: image)])
  }

  private static func image(of text: String) -> [UInt8]? {
    guard text.hasPrefix("data:") else { return Base64.decode(text) }
    guard let comma = text.firstIndex(of: ",") else { return nil }
    return Base64.decode(text[text.index(after: comma)...])
  }

  public func write(_ options: BootOptions) async throws(BootError) {
    guard try read() != options else { return }
    do throws(FileError) {
      if let text = options[Self.optionName]?.list.first, let image = Self.image(of: text) {
        try await keepOriginal()
        try DurableFile.makeDirectories(for: live)
        try await BootFile.write(image, to: live)
      } else {
        try await BootFile.write(try BootFile.read(original), to: live)
      }
    } catch {
      throw BootError(error.message)
    }
  }

  public func prepare() async {
    guard !hasPrepared else { return }
    hasPrepared = true
    do throws(FileError) { try await keepOriginal() } catch {
      logger.warning("Could not initialise splash image backend: \(error)")
    }
  }

  private func keepOriginal() async throws(FileError) {
    guard access(original, F_OK) != 0, access(live, F_OK) == 0 else { return }
    try await BootFile.write(try BootFile.read(live), to: original)
  }
}
