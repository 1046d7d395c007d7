public import JSON

/// Which volume the host's kernel loads more firmware from: `os.kernel.extraFirmwareVol` of config.json (host 13).
public nonisolated enum ExtraFirmware: Sendable, Hashable {
  public static let volume = "extra-firmware"

  /// It is the agent's volume.
  case named
  /// It is another one, or none.
  case unnamed(old: JSON?)
  /// A section is something else than an object, which is the user's to correct.
  case malformed(section: String)

  /// - Parameter os: the member `os` as it is in config.json.
  public init(of os: JSON?) {
    guard let os, !os.isNull else {
      self = .unnamed(old: nil)
      return
    }
    guard let members = os.objectValue else {
      self = .malformed(section: "os")
      return
    }
    guard let kernel = members["kernel"], !kernel.isNull else {
      self = .unnamed(old: nil)
      return
    }
    guard let kernelMembers = kernel.objectValue else {
      self = .malformed(section: "os.kernel")
      return
    }
    let old = kernelMembers["extraFirmwareVol"]
    self = old?.stringValue == Self.volume ? .named : .unnamed(old: old)
  }

  /// The section with the agent's volume in it, nil where there is nothing to change, or where it is malformed.
  public static func naming(in os: JSON?) -> JSON? {
    guard case .unnamed = ExtraFirmware(of: os) else { return nil }
    var members = os?.objectValue ?? [:]
    var kernel = members["kernel"]?.objectValue ?? [:]
    kernel["extraFirmwareVol"] = .string(volume)
    members["kernel"] = .object(kernel)
    return .object(members)
  }
}
