/// What a device has to offer to the contracts of services (target-state 7.1).
public nonisolated struct ContractFacts: Sendable, Hashable {
  public var agentVersion: String
  public var deviceType: String
  public var architecture: String
  /// With three numbers, such as `32.4.0`; nil on other kernels than NVIDIA's.
  public var l4tVersion: String?
  public var operatingSystem: Software?
  public var kernel: Software?

  public struct Software: Sendable, Hashable {
    public var slug: String
    public var version: String

    /// - Returns: nil unless both are known.
    public init?(slug: String?, version: String?) {
      guard let slug, let version, !slug.isEmpty, !version.isEmpty else { return nil }
      self.slug = slug
      self.version = version
    }
  }

  public init(
    agentVersion: String, deviceType: String = "unknown", architecture: String = "unknown",
    l4tVersion: String? = nil, operatingSystem: Software? = nil, kernel: Software? = nil
  ) {
    self.agentVersion = agentVersion
    self.deviceType = deviceType
    self.architecture = architecture
    self.l4tVersion = l4tVersion
    self.operatingSystem = operatingSystem
    self.kernel = kernel
  }

  /// One thing that a device has.
  struct Fact: Sendable, Hashable {
    var type: ContractRequirement.Kind
    var slug: String?
    var version: String?
  }

  /// Everything that can be asked for.
  var all: [Fact] {
    var facts: [Fact] = [
      Fact(type: .supervisor, version: agentVersion), Fact(type: .deviceType, slug: deviceType),
      Fact(type: .architecture, slug: architecture),
    ]
    if let l4tVersion { facts.append(Fact(type: .l4t, version: l4tVersion)) }
    if let operatingSystem {
      facts.append(Fact(type: .os, slug: operatingSystem.slug, version: operatingSystem.version))
    }
    if let kernel { facts.append(Fact(type: .kernel, slug: kernel.slug, version: kernel.version)) }
    return facts
  }
}
