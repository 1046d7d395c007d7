import JSON

/// What a service asks of the device that runs it (target-state 7.2).
nonisolated struct Contract: Sendable, Hashable {
  /// All have to hold; each is met by any one of its alternatives. An entry without alternatives
  /// (`{"or": []}`) holds.
  var requirements: [[ContractRequirement]] = []

  /// - Throws: what is wrong with the form, in the words of target-state 7.3.
  init(parsing value: JSON) throws(ModelError) {
    guard let members = value.objectValue else { throw Self.unexpected("object", "contract", value) }
    if let type = members["type"], !type.isNull, type.stringValue == nil {
      throw Self.unexpected("string", "type", type)
    }
    _ = try Self.text(members["slug"], "slug")
    guard let requires = members["requires"], !requires.isNull else { return }
    guard let entries = requires.arrayValue else { throw Self.unexpected("list", "requires", requires) }
    for (position, entry) in entries.enumerated() {
      let path = "requires.\(position)"
      if entry["type"] == nil, let alternatives = entry["or"] {
        guard let atoms = alternatives.arrayValue else {
          throw Self.unexpected("list", path + ".or", alternatives)
        }
        var requirements: [ContractRequirement] = []
        for (position, atom) in atoms.enumerated() {
          requirements.append(try ContractRequirement(parsing: atom, at: "\(path).or.\(position)"))
        }
        self.requirements.append(requirements)
      } else {
        requirements.append([try ContractRequirement(parsing: entry, at: path)])
      }
    }
  }

  func isMet(by facts: [ContractFacts.Fact]) -> Bool {
    requirements.allSatisfy { alternatives in
      alternatives.isEmpty
        || alternatives.contains { requirement in facts.contains(where: requirement.isMet) }
    }
  }

  /// A string; nil when missing or `null`.
  fileprivate static func text(_ value: JSON?, _ path: String) throws(ModelError) -> String? {
    guard let value, !value.isNull else { return nil }
    guard let text = value.stringValue else { throw unexpected("string", path, value) }
    return text
  }

  fileprivate static func unexpected(_ type: String, _ path: String, _ value: JSON?) -> ModelError {
    ModelError("Expecting \(type) at \(path) but instead got: \(value?.description ?? "undefined")")
  }
}

/// One thing that a contract asks for.
nonisolated struct ContractRequirement: Sendable, Hashable {
  var type: Kind
  var slug: String?
  var version: String?
  /// No device has data to offer, so that a requirement with data is never met.
  var hasData: Bool

  /// What can be asked for.
  enum Kind: String, Sendable, Hashable {
    case supervisor = "sw.supervisor"
    case l4t = "sw.l4t"
    case os = "sw.os"
    case kernel = "sw.kernel"
    case deviceType = "hw.device-type"
    case architecture = "arch.sw"
  }

  fileprivate init(parsing value: JSON, at path: String) throws(ModelError) {
    guard let members = value.objectValue else { throw Contract.unexpected("object", path, value) }
    guard let text = members["type"]?.stringValue else {
      throw Contract.unexpected("string", path + ".type", members["type"])
    }
    slug = try Contract.text(members["slug"], path + ".slug")
    version = try Contract.text(members["version"], path + ".version")
    if let data = members["data"], data.objectValue == nil {
      throw Contract.unexpected("object", path + ".data", data)
    }
    hasData = members["data"] != nil
    guard let type = Kind(rawValue: text) else {
      throw ModelError("\(text) is not a valid contract requirement type")
    }
    self.type = type
  }

  func isMet(by fact: ContractFacts.Fact) -> Bool {
    guard type == fact.type, !hasData else { return false }
    if let slug, !slug.isEmpty, slug != fact.slug { return false }
    guard let version, !version.isEmpty else { return true }
    guard let offered = fact.version else { return false }
    if let offered = SemanticVersion(parsing: offered), let range = VersionRange(parsing: version) {
      return range.contains(offered)
    }
    return version == offered
  }
}
