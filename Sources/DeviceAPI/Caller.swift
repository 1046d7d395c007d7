import Database
import HTTP

/// Who sent a request, and which apps it may see (http-api 2.7, 2.8). One object for each key; it
/// keeps the answers that were prepared for it.
public final class Caller {
  private enum Access {
    /// In local mode and on an unmanaged device no key is asked for.
    case everything
    case key(APIKey)
    case nothing
  }

  private let access: Access
  let prepared: PreparedAnswers

  private init(_ access: Access, prepared: PreparedAnswers = PreparedAnswers()) {
    self.access = access
    self.prepared = prepared
  }

  /// Whoever calls while no key is asked for.
  static func unrestricted() -> Caller { Caller(.everything) }

  /// - Parameter everyone: a caller that sees everything gets the same answers as this one.
  static func of(_ key: APIKey, like everyone: Caller) -> Caller {
    let tally = everyone.prepared.tally
    return Caller(
      .key(key), prepared: key.scopes.contains(.global) ? everyone.prepared : PreparedAnswers(tally))
  }

  /// What a request would be that no authorisation has seen.
  fileprivate static let nobody = Caller(.nothing)

  /// Sees all apps.
  public var isUnrestricted: Bool {
    switch access {
    case .everything: true
    case .key(let key): key.scopes.contains(.global)
    case .nothing: false
    }
  }

  /// Whether the app may be seen and acted on.
  public func covers(_ appId: Int) -> Bool {
    switch access {
    case .everything: true
    case .key(let key): key.covers(app: appId)
    case .nothing: false
    }
  }

  /// For the log: what the key covers, never the key.
  var scopeText: String {
    switch access {
    case .everything: "local"
    case .nothing: "none"
    case .key(let key) where key.scopes.contains(.global): "global"
    case .key(let key):
      key.scopes.compactMap { if case .app(let appId) = $0 { appId } else { nil } }.sorted()
        .map { "app \($0)" }.joined(separator: ", ")
    }
  }
}

extension Request {
  /// Set by the authorisation of the pipeline, before any route that needs a key.
  public var caller: Caller { context as? Caller ?? Caller.nobody }
}
