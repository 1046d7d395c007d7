/// The target's apps, mapped to what the engine shall run, and how little of them is kept.
///
/// Mapped to values, a composition takes nine times the memory of its document, and a device at rest needs
/// none of them. What stays are the rows of the database as they are, text, and an outline of each app.
/// `apps` keeps the values from `map` or its own first use until `letGo`, which who works with them calls
/// when nothing is left to do; later they are mapped anew, from the same rows and facts to equal values.
public nonisolated struct MappedTarget: Sendable {
  /// What is mapped next: the stored target.
  public private(set) var rows: [StoredTargetApp] = []
  /// Normalised names of all images of `rows`; made anew at each reading.
  public var imageNames: [String] { packedImageNames.texts }
  /// Of the apps as they were last mapped.
  public private(set) var outlines: [TargetOutline] = []
  /// The apps are those of `rows`, and not of rows that were there before.
  public var isCurrent: Bool { basis?.rows == rows }
  /// Why an app cannot be mapped, by app id.
  public private(set) var problems: [Int: String] = [:]

  private var packedImageNames = PackedTexts([])
  private var basis: Basis?
  private var values: [App]?

  private struct Basis: Sendable {
    var rows: [StoredTargetApp]
    var context: MappingContext
    var images: ImageFacts
  }

  public init() {}

  /// Takes the rows that are to be mapped; until `map` the apps stay what they were.
  public mutating func load(_ rows: [StoredTargetApp]) {
    guard rows != self.rows else { return }
    self.rows = rows
    packedImageNames = PackedTexts(Self.read(rows).flatMap(\.imageNames))
    problems = [:]
  }

  /// Maps the rows.
  ///
  /// - Parameters:
  ///   - apiKey: the key of a service that asks for the agent's API.
  ///   - note: told of each thing of a composition that is passed over.
  public mutating func map(
    context: MappingContext, images: ImageFacts, apiKey: (_ appId: Int, _ service: String) -> String?,
    note: (String) -> Void
  ) {
    let targets = Self.read(rows)
    let infos = images.byName
    var context = context
    for target in targets {
      for service in target.servicesWithSupervisorApi(images: infos) {
        context.supervisorApiKeys[.init(appId: target.appId, serviceName: service)] =
          apiKey(target.appId, service)
      }
    }
    var failed: [Int: String] = [:]
    let mapped = Self.map(targets, context: context, images: infos) { target, outcome in
      switch outcome {
      case .notes(let notes): for line in notes { note(line) }
      case .problem(let error): failed[target.appId] = "app \(target.name): \(error)"
      }
    }
    problems = failed
    outlines = mapped.map(TargetOutline.init)
    values = mapped
    basis = Basis(rows: rows, context: context, images: images)
  }

  /// The apps as they were last mapped; none before `map`.
  public var apps: [App] {
    if let values { return values }
    guard let basis else { return [] }
    return Self.map(Self.read(basis.rows), context: basis.context, images: basis.images.byName)
  }

  /// `apps`, kept until `letGo`.
  public mutating func heldApps() -> [App] {
    if let values { return values }
    let apps = apps
    values = apps
    return apps
  }

  /// Drops the values that `apps` can make again.
  public mutating func letGo() { values = nil }

  // MARK: -

  private enum Outcome {
    case notes([String])
    case problem(ModelError)
  }

  private static func read(_ rows: [StoredTargetApp]) -> [TargetApp] { rows.map(TargetApp.init(reading:)) }

  /// An app that cannot be mapped is not gone from the target: what runs of it stays as it is.
  private static func map(
    _ targets: [TargetApp], context: MappingContext, images: [String: ImageInfo],
    told: (TargetApp, Outcome) -> Void = { _, _ in }
  ) -> [App] {
    targets.map { target in
      do throws(ModelError) {
        let (app, notes) = try App.target(from: target, context: context, images: images)
        told(target, .notes(notes))
        return app
      } catch {
        told(target, .problem(error))
        return App.unmapped(target, because: error)
      }
    }
  }
}

/// The images of a target that are on the device.
public nonisolated struct ImageFacts: Sendable, Hashable {
  /// Normalised image reference to the engine's id.
  public var ids: [String: String]
  /// By the engine's id.
  public var infos: [String: ImageInfo]

  public init(ids: [String: String] = [:], infos: [String: ImageInfo] = [:]) {
    self.ids = ids
    self.infos = infos
  }

  /// By normalised image reference.
  public var byName: [String: ImageInfo] { ids.compactMapValues { infos[$0] } }
}

nonisolated extension TargetApp {
  /// An app whose row cannot be read carries its problem, so that it neither stops the others nor counts as
  /// gone from the target.
  public init(reading stored: StoredTargetApp) {
    do throws(ModelError) { self = try TargetApp(stored: stored) } catch {
      self = TargetApp(unreadable: stored, because: error)
    }
  }
}

nonisolated extension StoredTargetApp {
  /// The release's id; nil when the app is to run nothing.
  public var wantedReleaseId: Int? {
    guard let commit, !commit.isEmpty, let releaseId, releaseId != 0 else { return nil }
    return releaseId
  }

  /// Whether both say the same, in whatever order of their members.
  public func means(_ other: StoredTargetApp) -> Bool {
    self == other || TargetApp(reading: self) == TargetApp(reading: other)
  }
}
